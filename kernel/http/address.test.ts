import { describe, expect, test } from 'bun:test'
import { clientAddress, isForwarded, isLoopbackAddress, proxyTrust } from './address.ts'

const headers = (init: Record<string, string>) => new Headers(init)
const trustedProxies = ['10.0.0.0/8', '::1', '192.0.2.7']
const trusted = proxyTrust({ trustedProxies, forwardedHeader: 'x-forwarded-for' })
const byForwarded = proxyTrust({ trustedProxies, forwardedHeader: 'forwarded' })

describe('the client’s address', () => {
  test('is the peer’s when no proxy is trusted, whatever the headers say', () => {
    expect(clientAddress('203.0.113.5', headers({ 'x-forwarded-for': '1.2.3.4' }), null)).toBe('203.0.113.5')
    expect(clientAddress('203.0.113.5', headers({ 'x-forwarded-for': '1.2.3.4' }), trusted)).toBe('203.0.113.5')
  })

  test('is the rightmost untrusted hop behind trusted proxies', () => {
    const seen = (list: string, peer = '10.0.0.1') => clientAddress(peer, headers({ 'x-forwarded-for': list }), trusted)
    expect(seen('1.2.3.4')).toBe('1.2.3.4')
    expect(seen('6.6.6.6, 1.2.3.4')).toBe('1.2.3.4')
    expect(seen('6.6.6.6, 1.2.3.4, 10.9.9.9, 192.0.2.7')).toBe('1.2.3.4')
    expect(seen('10.1.1.1, 10.2.2.2')).toBe('10.1.1.1')
    expect(seen('1.2.3.4', '::1')).toBe('1.2.3.4')
    expect(seen('1.2.3.4', '::ffff:10.0.0.1')).toBe('1.2.3.4')
    expect(seen('1.2.3.4:5678')).toBe('1.2.3.4')
    expect(seen('2001:db8::1')).toBe('2001:db8::1')
  })

  test('stops at what is no address, so that a forged hop is not believed', () => {
    expect(clientAddress('10.0.0.1', headers({ 'x-forwarded-for': '1.2.3.4, unknown' }), trusted)).toBe('10.0.0.1')
  })

  test('is read from Forwarded when the config names it', () => {
    const seen = (value: string) => clientAddress('10.0.0.1', headers({ forwarded: value }), byForwarded)
    expect(seen('for=1.2.3.4;proto=https')).toBe('1.2.3.4')
    expect(seen('for=6.6.6.6, for="[2001:db8::7]:4711";by=10.0.0.2')).toBe('2001:db8::7')
  })

  test('is never read from the other header, which the proxy passes on as its client wrote it', () => {
    const contradiction = headers({ 'x-forwarded-for': '1.2.3.4', forwarded: 'for=5.6.7.8' })
    expect(clientAddress('10.0.0.1', contradiction, trusted)).toBe('1.2.3.4')
    expect(clientAddress('10.0.0.1', contradiction, byForwarded)).toBe('5.6.7.8')
    expect(clientAddress('10.0.0.1', headers({ forwarded: 'for=5.6.7.8' }), trusted)).toBe('10.0.0.1')
    expect(clientAddress('10.0.0.1', headers({ 'x-forwarded-for': '1.2.3.4' }), byForwarded)).toBe('10.0.0.1')
  })
})

test('trusted proxies are addresses or CIDR blocks', () => {
  const of = (list: string[]) => proxyTrust({ trustedProxies: list, forwardedHeader: 'forwarded' })
  expect(of([])).toBeNull()
  expect(['10.255.0.1', '11.0.0.1', '::1', 'nonsense'].map((address) => trusted?.isTrusted(address))).toEqual([true, false, true, false])
  expect(['10.0.0.7', '10.0.0.8'].map((address) => of(['10.0.0.7/32'])?.isTrusted(address))).toEqual([true, false])
})

test('loopback addresses, and headers that end being loopback', () => {
  expect(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', ''].map(isLoopbackAddress)).toEqual([true, true, true, true, true])
  expect(['10.0.0.1', 'unknown', '1127.0.0.1', '2001:db8::1'].map(isLoopbackAddress)).toEqual([false, false, false, false])
  for (const name of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'x-real-ip'])
    expect(isForwarded(headers({ [name]: 'x' }))).toBe(true)
  expect(isForwarded(headers({ host: 'a' }))).toBe(false)
})
