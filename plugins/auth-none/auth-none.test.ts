import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { outcome, send } from '../../test/fixtures/send.ts'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const whoami = '/api/v1/auth/whoami'
const start = (config: string) => startTestGateway({ config, listen: true })
const at = (gateway: TestGateway) => ({ url: gateway.url ?? '' })
const warnings = ({ log }: TestGateway) => log.filter(({ plugin, level }) => plugin === 'auth-none' && level === 'warn')

test('without a word in the config it lets nobody in', async () => {
  for (const config of ['', '[auth-none]\nallow = false', '[auth-none]\nenabled = false\nallow = true', '[auth-none]\nenabled = true']) {
    await using gateway = await start(config)
    expect([config, await outcome(at(gateway), whoami)]).toEqual([config, '401 missing_credentials'])
    expect(warnings(gateway)).toEqual([])
  }
})

describe('with allow = true', () => {
  let gateway: TestGateway
  let host: string
  beforeAll(async () => {
    gateway = await start('[auth-none]\nallow = true\n[gateway]\ncorsOrigins = ["https://app.example"]\nallowQueryToken = true')
    host = new URL(gateway.url ?? '').host
  })
  afterAll(() => gateway.stop())
  const ask = (path: string, headers?: Record<string, string>, method?: string) => outcome(at(gateway), path, { headers, method })

  test('who is on this machine is the local user, and the log says so at the start', async () => {
    const { status, text } = await send(at(gateway), whoami)
    expect([status, JSON.parse(text)]).toEqual([200, expect.objectContaining({ id: 'local-user', kind: 'user', scopes: ['rpc', 'api', 'approve'] })])
    expect(await ask('/v1/models')).toBe('200')
    expect(warnings(gateway).map(({ message }) => message)).toEqual([
      'Everybody on this machine may use this gateway without a key, with the scopes rpc, api, approve: [auth-none] allow = true',
    ])
  })

  test('/metrics shows over loopback what it shows without this plugin', async () => {
    expect(await ask('/metrics')).toBe('200')
    expect(await ask('/metrics', { 'x-forwarded-for': '203.0.113.9' })).toBe('401 missing_credentials')
  })

  test('a ticket on a route that is no stream is not overlooked', async () => {
    expect(await ask(`${whoami}?ticket=tkt_wrong`)).toBe('401 invalid_api_key')
  })

  test('he is no administrator', async () => {
    expect(await ask('/api/keys')).toBe('403 insufficient_scope')
    expect(await ask('/api/keys', { 'content-type': 'application/json' }, 'POST')).toBe('403 insufficient_scope')
  })

  test('what is open stays open, and other credentials stay what they are', async () => {
    expect(await ask('/health')).toBe('200')
    expect(await ask(whoami, { authorization: `Bearer ${gateway.adminToken}` })).toBe('200')
    const { id, key } = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'mine' } })).body
    const mine = await send(at(gateway), whoami, { headers: { 'x-api-key': key } })
    expect(JSON.parse(mine.text).id).toBe(id)
    await gateway.json(`/api/keys/${id}`, { method: 'DELETE' })
    expect(await ask(whoami, { 'x-api-key': key })).toBe('401 invalid_api_key')
  })

  test.each([
    ['a wrong bearer', { authorization: 'Bearer wrong' }, ''],
    ['a bearer of nothing', { authorization: 'Bearer ' }, ''],
    ['another scheme', { authorization: 'Basic eDp5' }, ''],
    ['an empty Authorization', { authorization: '' }, ''],
    ['a wrong X-Api-Key', { 'x-api-key': 'wrong' }, ''],
    ['an empty X-Api-Key', { 'x-api-key': '' }, ''],
    ['a wrong ticket', {}, '?ticket=tkt_wrong'],
    ['a wrong token in the query', {}, '?token=wrong'],
  ] as const)('%s is 401, as it would be anywhere', async (_, headers, query) => {
    expect(await ask(`/api/events${query}`, { ...headers })).toBe('401 invalid_api_key')
  })

  test.each(['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'cf-connecting-ip'])('with %s nobody is on this machine', async (name) => {
    expect(await ask(whoami, { [name]: name === 'forwarded' ? 'for=127.0.0.1' : '127.0.0.1' })).toBe('401 missing_credentials')
  })

  test('a page of another origin is refused, on routes and on streams, in a sandbox too', async () => {
    for (const origin of ['https://evil.example', 'http://localhost:1', 'null', `http://${host}.evil.example`])
      for (const path of [whoami, '/v1/models', '/api/events', '/v1/chat/completions'])
        expect([origin, path, await ask(path, { origin })]).toEqual([origin, path, '403 origin_not_allowed'])
    expect(await ask('/v1/chat/completions', { origin: 'https://evil.example', 'access-control-request-method': 'POST' }, 'OPTIONS')).toBe(
      '403 origin_not_allowed',
    )
  })

  test('a page that may call needs a key for it', async () => {
    expect(await ask(whoami, { origin: 'https://app.example' })).toBe('401 missing_credentials')
    expect(await ask(whoami, { origin: 'https://app.example', authorization: `Bearer ${gateway.adminToken}` })).toBe('200')
  })

  test('requests of other pages without an Origin gain nothing; the gateway’s own pages do', async () => {
    for (const site of ['cross-site', 'same-site', 'whatever'])
      expect([site, await ask(whoami, { 'sec-fetch-site': site })]).toEqual([site, '401 missing_credentials'])
    for (const site of ['same-origin', 'none']) expect([site, await ask(whoami, { 'sec-fetch-site': site })]).toEqual([site, '200'])
    expect(await ask(whoami, { origin: `http://${host}`, 'sec-fetch-site': 'same-origin' })).toBe('200')
  })

  test('a name that another made lead here is refused', async () => {
    expect(await ask(whoami, { host: `evil.example:${new URL(gateway.url ?? '').port}` })).toBe('403 host_not_allowed')
  })

  test('he reads events, and may be thrown out', async () => {
    const stream = readSse(await gateway.fetch('/api/events', { as: '' }))
    await stream.waitFor('ready')
    gateway.gateway.kernel.revoke('none:local')
    await stream.ended
  })
})

test('he may do what the config says', async () => {
  await using gateway = await start('[auth-none]\nallow = true\nscopes = ["admin"]')
  expect(await outcome(at(gateway), '/api/keys')).toBe('200')
  await using poor = await start('[auth-none]\nallow = true\nscopes = []')
  expect(await outcome(at(poor), whoami)).toBe('403 insufficient_scope')
})

test('any page may call with "*", and still needs a key', async () => {
  await using gateway = await start('[auth-none]\nallow = true\n[gateway]\ncorsOrigins = ["*"]')
  expect(await outcome(at(gateway), whoami, { headers: { origin: 'https://evil.example' } })).toBe('401 missing_credentials')
  expect(await outcome(at(gateway), whoami)).toBe('200')
})

test('behind a trusted proxy nobody is on this machine, whatever its headers say', async () => {
  await using gateway = await start('[auth-none]\nallow = true\n[gateway]\ntrustedProxies = ["127.0.0.1"]')
  for (const headers of [{}, { 'x-forwarded-for': '127.0.0.1' }] as Record<string, string>[])
    expect(await outcome(at(gateway), whoami, { headers })).toBe('401 missing_credentials')
})

test('a gateway that may listen publicly does not start with it, and says why; nor with a scope that nobody knows', async () => {
  const refusal = (config: string) => start(`${config}\n[auth-none]\nallow = true`).then(() => 'it started', String)
  expect(await refusal('[gateway]\nallowPublicBind = true\nhost = "0.0.0.0"')).toMatch(
    /does not start without the plugin "auth-none".*gateway\.allowPublicBind/,
  )
  expect(await refusal('[gateway]\nallowPublicBind = true')).toContain('[plugin auth-none] allow:')
  const misspelt = await start('[auth-none]\nallow = true\nscopes = ["aprove"]').then(() => 'it started', String)
  expect(misspelt).toContain('[plugin auth-none] scopes: there is no scope "aprove": did you mean "approve"?')
  // Without allow it has nothing against it.
  await using gateway = await start('[gateway]\nallowPublicBind = true')
  expect(await outcome(at(gateway), whoami)).toBe('401 missing_credentials')
})
