import { describe, expect, test } from 'bun:test'
import { definePlugin, guard, rpc } from 'portico'
import { startTestGateway } from 'portico/testkit'
import { as, testHttp, tokens } from '../../test/fixtures/http.ts'
import { createGuessLimit } from './guesses.ts'
import { createAddressLimit, createPrincipalLimit } from './limits.ts'

const now = () => 1_000_000
const minute = { windowMs: 60_000, now }

describe('limits', () => {
  const routes = [guard(rpc, (app) => app.get('/t/limited', 'x')), guard(rpc, (app) => app.get('/t/free', 'x'), { unlimited: true })]

  test('none by default', async () => {
    const { send } = await testHttp({ routes })
    for (let i = 0; i < 300; i++) expect((await send('/t/limited', as('ann'))).headers.has('ratelimit-limit')).toBe(false)
  })

  test('per principal, with headers in seconds, and exempt groups', async () => {
    const { send } = await testHttp({ routes, requestLimits: [createPrincipalLimit({ ...minute, maxRequests: 3 })] })
    const first = await send('/t/limited', as('ann'))
    expect(['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'retry-after'].map((name) => first.headers.get(name))).toEqual(['3', '2', '20', null])
    await send('/t/limited', as('ann'))
    await send('/t/limited', as('ann'))
    const refused = await send('/t/limited', as('ann'))
    expect([refused.status, refused.headers.get('ratelimit-remaining')]).toEqual([429, '0'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(refused.headers.get('retry-after')).toBe(refused.headers.get('ratelimit-reset'))
    expect((await send('/t/limited', as('bob'))).status).toBe(200)
    expect((await send('/t/free', as('ann'))).status).toBe(200)
  })

  test('per address, before anything is verified', async () => {
    const { outcome } = await testHttp({ routes, requestLimits: [createAddressLimit({ ...minute, maxRequests: 2 })] })
    const from = { from: '10.0.0.1' }
    expect([await outcome('/t/none', from), await outcome('/t/limited', from), await outcome('/t/limited', { ...as('ann'), ...from })]).toEqual([
      '404 not_found',
      '401 missing_credentials',
      '429 rate_limit_exceeded',
    ])
    expect(await outcome('/t/limited', { ...as('ann'), from: '10.0.0.2' })).toBe('200')
  })

  test('of two the nearer is shown, and the one that refuses', async () => {
    const both = [createAddressLimit({ ...minute, maxRequests: 5 }), createPrincipalLimit({ ...minute, maxRequests: 3 })]
    const { send } = await testHttp({ routes, requestLimits: both })
    const shown = async (token: string) => {
      const { status, headers } = await send('/t/limited', as(token))
      return `${status} ${headers.get('ratelimit-limit')}/${headers.get('ratelimit-remaining')}`
    }
    const all: string[] = []
    for (const token of ['ann', 'ann', 'bob', 'ann', 'bob', 'bob']) all.push(await shown(token))
    expect(all).toEqual(['200 3/2', '200 3/1', '200 5/2', '200 3/0', '200 5/0', '429 5/0'])
  })

  test('a call in process has no address to be counted by, and an IPv6 client is counted by its /64', async () => {
    const { outcome } = await testHttp({ routes, requestLimits: [createAddressLimit({ ...minute, maxRequests: 1 })] })
    for (let n = 0; n < 3; n++) expect(await outcome('/t/limited', { ...as('ann'), from: '' })).toBe('200')
    expect(await outcome('/t/limited', { ...as('ann'), from: '2001:db8::1' })).toBe('200')
    expect(await outcome('/t/limited', { ...as('ann'), from: '2001:db8::2' })).toBe('429 rate_limit_exceeded')
    expect(await outcome('/t/limited', { ...as('ann'), from: '2001:db8:0:1::1' })).toBe('200')
  })

  test('their keys in memory are counted, for a gauge', async () => {
    const limit = createPrincipalLimit({ ...minute, maxRequests: 3 })
    const { send } = await testHttp({ routes, requestLimits: [limit] })
    await send('/t/limited', as('ann'))
    await send('/t/limited', as('bob'))
    expect(limit.size).toBe(2)
  })

  test('an address that guesses is stopped; a token that is remembered still passes, other addresses are not touched', async () => {
    const { first, last } = createGuessLimit(now)
    const warnings: string[] = []
    const { outcome, send, http } = await testHttp({ routes, authMethods: [first, tokens('ann', 'bob'), last] })
    http.onRequest(({ security, address }) => void (security && warnings.push(`${security} ${address}`)))
    await outcome('/t/limited', { ...as('ann'), from: '10.0.0.9' })
    const codes = new Set<string>()
    for (let i = 0; i < 100; i++) codes.add(await outcome('/t/limited', { ...as(`guess${i}`), from: '10.0.0.9' }))
    expect([...codes]).toEqual(['401 invalid_api_key', '429 rate_limit_exceeded'])
    expect([...new Set(warnings)]).toEqual(['auth_failures 10.0.0.9'])
    expect(Number((await send('/t/limited', { ...as('bob'), from: '10.0.0.9' })).headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await outcome('/t/limited', { ...as('ann'), from: '10.0.0.9' })).toBe('200')
    expect(await outcome('/t/limited', { ...as('bob'), from: '10.0.0.8' })).toBe('200')
  })

  test('from an address that floods a key goes on when the gate has forgotten it, until it is revoked; so does the token of this machine', async () => {
    const { first, last } = createGuessLimit(now)
    const local = `ptl_${'a'.repeat(43)}`
    const room = await testHttp({ routes, authMethods: [first, tokens('ann', local), last] })
    const from = { from: '10.0.0.9' }
    expect(await room.outcome('/t/limited', { ...as('ann'), ...from })).toBe('200')
    for (let n = 0; n < 70; n++) await room.outcome('/t/limited', { ...as(`guess${n}`), ...from })
    room.time += 61_000
    for (const token of ['ann', local]) expect(await room.outcome('/t/limited', { ...as(token), ...from })).toBe('200')
    room.http.revoke('test:ann')
    expect(await room.outcome('/t/limited', { ...as('ann'), ...from })).toBe('429 rate_limit_exceeded')
  })

  test('a ticket that is wrong is no guess; another scheme is one', async () => {
    const { first, last } = createGuessLimit(now)
    const { outcome } = await testHttp({ routes: [guard(rpc, (app) => app.get('/t/stream', 'x'), { stream: true })], authMethods: [first, last] })
    const from = { from: '10.0.0.9' }
    for (let n = 0; n < 100; n++) expect(await outcome('/t/stream?ticket=old', from)).toBe('401 invalid_api_key')
    for (let n = 0; n < 60; n++) expect(await outcome('/t/stream', { headers: { authorization: 'Basic eDp5' }, ...from })).toBe('401 invalid_api_key')
    expect(await outcome('/t/stream', { ...as('x'), ...from })).toBe('429 rate_limit_exceeded')
  })
})

describe('in a gateway', () => {
  test('the seeds’ keys in [gateway] are read, in both spellings, and sockets count', async () => {
    const socket = {
      ...{ id: 'live', version: '1.0.0', api: 1, summary: 'A socket', paths: ['/live'] },
      setup: () => ({ sockets: [{ path: '/live', access: 'open' as const }] }),
    }
    const config = '[gateway.addressRateLimit]\nmaxRequests = 4\n[gateway]\nrate_limit = { window_ms = 60000, max_requests = 2 }\n'
    await using gateway = await startTestGateway({ plugins: [definePlugin(socket)], config, listen: true })
    const limit = async () => (await gateway.fetch('/v1/models')).headers.get('ratelimit-limit')
    expect(await limit()).toBe('2')
    for (let n = 0; n < 3; n++) {
      const ended = Promise.withResolvers<string>()
      const live = new WebSocket(`${gateway.url?.replace('http', 'ws')}/live`)
      live.onopen = () => ended.resolve('open')
      live.onerror = () => ended.resolve('refused')
      expect(await ended.promise).toBe(n < 2 ? 'open' : 'refused')
      live.close()
    }
  })

  test('keys given twice, or for a plugin that is off, are problems', async () => {
    const twice = '[gateway.rateLimit]\nmaxRequests = 1\n[limits.rateLimit]\nmaxRequests = 1\n'
    await expect(startTestGateway({ config: twice })).rejects.toThrow('also as limits.rateLimit')
    await expect(startTestGateway({ config: '[gateway.rateLimit]\nmaxRequests = 1\n[limits]\nenabled = false\n' })).rejects.toThrow(
      'limits, which is not loaded',
    )
  })

  test('guesses are limited without any configuration', async () => {
    await using gateway = await startTestGateway({ listen: true })
    const statuses: number[] = []
    for (let n = 0; n < 61; n++) statuses.push((await gateway.fetch('/v1/models', { as: `ptk_${n}` })).status)
    expect([statuses.indexOf(429), statuses[59]]).toEqual([60, 401])
  })
})
