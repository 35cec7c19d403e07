import { describe, expect, test } from 'bun:test'
import { type AuthMethod, admin, api, contextOf, GatewayError, guard, open, optional, rpc, signed } from 'portico'
import { as, principal, testHttp, tokens } from '../../test/fixtures/http.ts'

const routes = [
  open((app) => app.get('/t/open', ({ principal }) => principal.kind)),
  signed((app) => app.get('/t/signed', ({ principal }) => principal.kind)),
  optional(rpc, (app) => app.get('/t/optional', ({ principal }) => principal.id)),
  guard(rpc, (app) => app.get('/t/rpc', ({ principal }) => principal.id)),
  guard([api, rpc], (app) => app.get('/t/either', ({ principal }) => principal.id)),
  guard(admin, (app) => app.get('/t/admin', ({ principal }) => principal.id), { challenge: () => 'resource_metadata="https://x/y"' }),
  guard(rpc, (app) => app.get('/t/stream', ({ principal }) => principal.id).post('/t/stream', ({ principal }) => principal.id), { stream: true }),
]

/** A method that counts how often it is asked, and answers when the test says so. */
function counting(cacheFor = 60_000) {
  const state = { asked: 0, release: () => {}, gate: Promise.resolve() }
  const method: AuthMethod = {
    name: 'counting',
    async authenticate({ token }) {
      state.asked++
      await state.gate
      return token?.startsWith('good') ? { principal: principal('ann', ['rpc'], `counting:${token}`), cacheUntil: 1_000_000 + cacheFor } : null
    },
  }
  return { state, method }
}

/** Lets everybody in who presents nothing, with these scopes. */
const letsIn = (...scopes: string[]): AuthMethod => ({
  name: 'none',
  authenticate: ({ token, ticket }) => (token === undefined && ticket === undefined ? { principal: principal('local', scopes) } : null),
})

describe('who gets in', () => {
  test('by access and scope, with the same code everywhere', async () => {
    const { outcome } = await testHttp({ routes })
    const table: [string, string | undefined, string][] = [
      ['/t/open', undefined, '200'],
      ['/t/open', 'bad', '200'],
      ['/t/signed', 'bad', '200'],
      ['/t/optional', undefined, '200'],
      ['/t/optional', 'ann', '200'],
      ['/t/optional', 'bad', '401 invalid_api_key'],
      ['/t/optional', 'ann+api', '403 insufficient_scope'],
      ['/t/rpc', undefined, '401 missing_credentials'],
      ['/t/rpc', 'bad', '401 invalid_api_key'],
      ['/t/rpc', 'ann', '200'],
      ['/t/rpc', 'ann+mcp-client', '403 insufficient_scope'],
      ['/t/rpc', 'ann+admin', '200'],
      ['/t/either', 'ann+api', '200'],
      ['/t/admin', 'ann', '403 insufficient_scope'],
    ]
    for (const [path, token, expected] of table)
      expect(`${path} ${token} ${await outcome(path, token === undefined ? {} : as(token))}`).toBe(`${path} ${token} ${expected}`)
  })

  test('who presents nothing and is known by a method stays anonymous where he lacks the scope and nobody needs one', async () => {
    const { outcome, send } = await testHttp({ routes, authMethods: [letsIn('api'), tokens('ann')] })
    const who = async (path: string, token?: string) => (await send(path, token ? as(token) : {})).text()
    expect([await who('/t/optional'), await who('/t/either'), await who('/t/optional', 'ann')]).toEqual(['anonymous', 'local', 'ann'])
    expect(await outcome('/t/rpc')).toBe('403 insufficient_scope')
    expect(await outcome('/t/optional', as('ann+api'))).toBe('403 insufficient_scope')
    const able = await testHttp({ routes, authMethods: [letsIn('rpc')] })
    expect(await (await able.send('/t/optional')).text()).toBe('local')
  })

  test('X-Api-Key is as good as a bearer; another scheme is a bad credential', async () => {
    const { outcome } = await testHttp({ routes })
    expect(await outcome('/t/rpc', { headers: { 'x-api-key': 'ann' } })).toBe('200')
    expect(await outcome('/t/rpc', { headers: { authorization: 'bearer   ann' } })).toBe('200')
    expect(await outcome('/t/rpc', { headers: { authorization: 'Basic YTpi' } })).toBe('401 invalid_api_key')
  })

  test('a challenge says what is missing', async () => {
    const { send } = await testHttp({ routes })
    const challenge = async (path: string, token?: string) => (await send(path, token ? as(token) : {})).headers.get('www-authenticate')
    expect(await challenge('/t/rpc')).toBe('Bearer')
    expect(await challenge('/t/rpc', 'bad')).toBe('Bearer error="invalid_token"')
    expect(await challenge('/t/admin')).toBe('Bearer resource_metadata="https://x/y"')
    expect(await challenge('/t/rpc', 'ann+api')).toBe('Bearer error="insufficient_scope", scope="rpc"')
  })

  test('access comes before the body: a stranger’s body is not judged', async () => {
    const { outcome } = await testHttp({ routes: [guard(rpc, (app) => app.post('/t/post', () => 'x'))] })
    expect(await outcome('/t/post', { method: 'POST', body: 'x'.repeat(5_000) })).toBe('401 missing_credentials')
  })
})

describe('tokens in a URL', () => {
  test('are refused, also where query tokens are allowed but no stream is read', async () => {
    const off = await testHttp({ routes })
    expect(await off.outcome('/t/rpc?token=ann')).toBe('400 invalid_request')
    expect(await off.outcome('/t/stream?token=ann')).toBe('400 invalid_request')
    expect(await off.outcome('/t/open?token=ann')).toBe('200')
    const on = await testHttp({ routes, config: { allowQueryToken: true } })
    expect(await on.outcome('/t/rpc?token=ann')).toBe('400 invalid_request')
    expect(await on.outcome('/t/stream?token=ann', { method: 'POST' })).toBe('400 invalid_request')
    expect(await on.outcome('/t/stream?a=b&token=ann')).toBe('200')
    expect(await on.outcome('/t/stream?token=bad')).toBe('401 invalid_api_key')
  })

  test('tickets reach the methods on streams only', async () => {
    const seen: (string | undefined)[] = []
    const method: AuthMethod = {
      name: 'tickets',
      authenticate({ ticket }) {
        seen.push(ticket)
        return ticket === 'tkt' ? { principal: principal('ann') } : null
      },
    }
    const { outcome } = await testHttp({ routes, authMethods: [method] })
    expect(await outcome('/t/stream?ticket=tkt')).toBe('200')
    expect(await outcome('/t/stream?ticket=old')).toBe('401 invalid_api_key')
    expect(seen).toEqual(['tkt', 'old'])
  })

  test('a ticket where there is no stream is a bad credential, also when a method would let the request in without one', async () => {
    const { outcome } = await testHttp({ routes, authMethods: [letsIn('rpc')] })
    for (const path of ['/t/rpc', '/t/either', '/t/optional']) {
      expect([path, await outcome(path)]).toEqual([path, '200'])
      expect([path, await outcome(`${path}?ticket=tkt`)]).toEqual([path, '401 invalid_api_key'])
    }
    expect(await outcome('/t/stream?ticket=tkt', { method: 'POST' })).toBe('401 invalid_api_key')
    expect(await outcome('/t/open?ticket=mine')).toBe('200')
    const keyed = await testHttp({ routes })
    expect(await keyed.outcome('/t/rpc?ticket=mine', as('ann'))).toBe('200')
  })
})

describe('verifying', () => {
  test('happens once for a token, until its result is too old', async () => {
    const { state, method } = counting(10_000)
    const room = await testHttp({ routes, authMethods: [method] })
    for (let i = 0; i < 5; i++) expect(await room.outcome('/t/rpc', as('good'))).toBe('200')
    expect(state.asked).toBe(1)
    room.time += 10_001
    await room.outcome('/t/rpc', as('good'))
    expect(state.asked).toBe(2)
  })

  test('is remembered for a minute at most, whatever the method says', async () => {
    const { state, method } = counting(3_600_000)
    const room = await testHttp({ routes, authMethods: [method] })
    await room.outcome('/t/rpc', as('good'))
    room.time += 60_001
    await room.outcome('/t/rpc', as('good'))
    expect(state.asked).toBe(2)
  })

  test('is shared by requests that come at once', async () => {
    const { state, method } = counting()
    state.gate = new Promise<void>((resolve) => (state.release = resolve))
    const { outcome } = await testHttp({ routes, authMethods: [method] })
    const all = Promise.all(Array.from({ length: 20 }, () => outcome('/t/rpc', as('good'))))
    state.release()
    expect(new Set(await all)).toEqual(new Set(['200']))
    expect(state.asked).toBe(1)
  })

  test('a revoked credential is asked for again, also when it was being verified', async () => {
    const { state, method } = counting()
    const { outcome, http } = await testHttp({ routes, authMethods: [method] })
    await outcome('/t/rpc', as('good'))
    http.revoke('counting:good')
    await outcome('/t/rpc', as('good'))
    expect(state.asked).toBe(2)
    http.revoke('counting:good')
    state.gate = new Promise<void>((resolve) => (state.release = resolve))
    const during = outcome('/t/rpc', as('good'))
    http.revoke('counting:good')
    state.release()
    await during
    await outcome('/t/rpc', as('good'))
    expect(state.asked).toBe(4)
  })

  test('the cache is bounded', async () => {
    const { method } = counting()
    const { outcome, keeper } = await testHttp({ routes, authMethods: [method] })
    for (let i = 0; i < 10_050; i++) await outcome('/t/open', as('x'))
    for (let i = 0; i < 10_050; i++) await outcome('/t/rpc', as(`good${i}`))
    expect(keeper?.cached).toBe(10_000)
  })

  test('a token that is good from loopback only is not remembered for others', async () => {
    const local: AuthMethod = {
      name: 'local',
      authenticate: ({ loopback }) => (loopback ? { principal: principal('root'), cacheUntil: Number.POSITIVE_INFINITY } : null),
    }
    const { outcome } = await testHttp({ routes, authMethods: [local] })
    expect(await outcome('/t/rpc', as('local'))).toBe('200')
    expect(await outcome('/t/rpc', { headers: { authorization: 'Bearer local', 'x-forwarded-for': '127.0.0.1' } })).toBe('401 invalid_api_key')
    expect(await outcome('/t/rpc', { headers: { authorization: 'Bearer local' }, from: '10.0.0.1' })).toBe('401 invalid_api_key')
  })

  test('methods are asked in order; null passes on, a throw ends it', async () => {
    const asked: string[] = []
    const method = (name: string, answer: () => ReturnType<AuthMethod['authenticate']>): AuthMethod => ({
      name,
      authenticate() {
        asked.push(name)
        return answer()
      },
    })
    const busy = method('busy', () => {
      throw new GatewayError('rate_limit_exceeded', 'Verifying is busy.', { retryAfter: 3 })
    })
    const { send } = await testHttp({ routes, authMethods: [method('none', () => null), busy, tokens('ann')] })
    const response = await send('/t/rpc', as('ann'))
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '3'])
    expect(asked).toEqual(['none', 'busy'])
  })

  test('a method that fails is a fault, not a way in', async () => {
    const broken: AuthMethod = {
      name: 'broken',
      authenticate() {
        throw new Error('select * from keys')
      },
    }
    const { outcome, faults } = await testHttp({ routes, authMethods: [broken, tokens('ann')] })
    expect(await outcome('/t/rpc', as('ann'))).toBe('500 internal_error')
    expect(faults.join()).toContain('select * from keys')
  })
})

test('a method that watches streams hears of them and can end them', async () => {
  const log: string[] = []
  let end = () => {}
  const method: AuthMethod = {
    name: 'held',
    authenticate: () => ({
      principal: principal('ann'),
      cacheUntil: Number.POSITIVE_INFINITY,
      held(close) {
        log.push('held')
        end = close
        return () => void log.push('released')
      },
    }),
  }
  const holding = guard(rpc, (app) => app.get('/t/hold', ({ request }) => void contextOf(request).hold('events', (reason) => log.push(reason))), {
    stream: true,
  })
  const { outcome, http, keeper } = await testHttp({ routes: [holding], authMethods: [method] })
  expect(await outcome('/t/hold?ticket=x')).toBe('200')
  expect(keeper?.cached).toBe(0)
  end()
  expect(log).toEqual(['held', 'released', 'revoked'])
  expect(http.stats().gauges.streams_events).toBe(0)
})
