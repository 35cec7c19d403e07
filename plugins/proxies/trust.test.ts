import { describe, expect, test } from 'bun:test'
import { formatProblem } from 'portico'
import { findStrangers, trust } from './trust.ts'

const headers = (init: Record<string, string>) => new Headers(init)
const trustedProxies = ['10.0.0.0/8', '::1', '192.0.2.7']
const trusted = trust({ trustedProxies, forwardedHeader: 'x-forwarded-for' })
const byForwarded = trust({ trustedProxies, forwardedHeader: 'forwarded' })

describe('the client’s address', () => {
  test('is the peer’s when that is no trusted proxy, whatever the headers say', () => {
    expect(trusted('203.0.113.5', headers({ 'x-forwarded-for': '1.2.3.4' }))).toBe('203.0.113.5')
  })

  test('is the rightmost untrusted hop behind trusted proxies', () => {
    const seen = (list: string, peer = '10.0.0.1') => trusted(peer, headers({ 'x-forwarded-for': list }))
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
    expect(trusted('10.0.0.1', headers({ 'x-forwarded-for': '1.2.3.4, unknown' }))).toBe('10.0.0.1')
  })

  test('is read from Forwarded when the config names it', () => {
    const seen = (value: string) => byForwarded('10.0.0.1', headers({ forwarded: value }))
    expect(seen('for=1.2.3.4;proto=https')).toBe('1.2.3.4')
    expect(seen('for=6.6.6.6, for="[2001:db8::7]:4711";by=10.0.0.2')).toBe('2001:db8::7')
  })

  test('is never read from the other header, which the proxy passes on as its client wrote it', () => {
    const contradiction = headers({ 'x-forwarded-for': '1.2.3.4', forwarded: 'for=5.6.7.8' })
    expect(trusted('10.0.0.1', contradiction)).toBe('1.2.3.4')
    expect(byForwarded('10.0.0.1', contradiction)).toBe('5.6.7.8')
    expect(trusted('10.0.0.1', headers({ forwarded: 'for=5.6.7.8' }))).toBe('10.0.0.1')
    expect(byForwarded('10.0.0.1', headers({ 'x-forwarded-for': '1.2.3.4' }))).toBe('10.0.0.1')
  })
})

test('trusted proxies are addresses or CIDR blocks', () => {
  const seen = (list: string[], peer: string) =>
    trust({ trustedProxies: list, forwardedHeader: 'x-forwarded-for' })(peer, headers({ 'x-forwarded-for': '1.2.3.4' }))
  expect(['10.255.0.1', '11.0.0.1', '::1', 'nonsense'].map((peer) => seen(trustedProxies, peer))).toEqual(['1.2.3.4', '11.0.0.1', '1.2.3.4', 'nonsense'])
  expect(['10.0.0.7', '10.0.0.8'].map((peer) => seen(['10.0.0.7/32'], peer))).toEqual(['1.2.3.4', '10.0.0.8'])
  expect(seen([], '10.0.0.7')).toBe('10.0.0.7')
})

test('what is neither is a problem that says where', () => {
  const wrong = ['proxy', '10.0.0.0/33', '10.0.0.0/x', '::1/129', 'fe80::1%eth0', '1.2.3.4/8/9']
  const problems = findStrangers({ trustedProxies: [...trustedProxies, ...wrong], forwardedHeader: 'forwarded' })
  const expected = 'an address such as 192.0.2.7, or a CIDR block such as 10.0.0.0/8'
  expect(problems.map(formatProblem)).toEqual(
    wrong.map((found, n) => `[gateway] trustedProxies[${n + 3}]: is no network; found "${found}"; expected ${expected}`),
  )
})
