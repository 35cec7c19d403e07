import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { sql } from 'drizzle-orm'
import { admin, definePlugin, guard } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const secretOfConfig = 'configured-token-of-thirty-two-characters'
/** Looks into the table itself. */
const peek = definePlugin({
  id: 'peek',
  version: '0.1.0',
  api: 1,
  summary: 'Reads the table of keys',
  paths: ['/peek'],
  setup: ({ db }) => ({
    routes: [
      guard(admin, (app) =>
        app.get('/peek', async () => ({ rows: (await db.execute(sql`select * from auth_token_keys`)).rows }), { detail: { summary: 'Peek' } }),
      ),
    ],
  }),
})

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ plugins: [peek], config: `[[auth-token.tokens]]\nid = "ci"\nsecret = "${secretOfConfig}"\nscopes = ["rpc"]\n` })
})
afterAll(() => gateway.stop())

async function create(draft: Record<string, unknown> = {}) {
  const { status, body, headers } = await gateway.json('/api/keys', { method: 'POST', body: draft })
  expect(status).toBe(201)
  expect(headers.get('cache-control')).toBe('no-store')
  return body
}
const whoami = (as: string) => gateway.json('/api/v1/auth/whoami', { as })

describe('a key', () => {
  test('is shown once, stored only as Argon2id, and opens what its scopes open', async () => {
    const made = await create({ name: 'laptop' })
    expect(made.key).toMatch(/^ptk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$/)
    expect(made).toMatchObject({ name: 'laptop', kind: 'user', owner: null, scopes: ['rpc', 'api', 'approve'], expiresAt: null, revokedAt: null })
    const secret = made.key.split('_').slice(2).join('_')

    const shown = JSON.stringify([(await gateway.json(`/api/keys/${made.id}`)).body, (await gateway.json('/api/keys')).body])
    expect(shown).toContain(made.prefix)
    expect(shown).not.toContain('argon2')
    expect(shown).not.toContain(secret)
    const { rows } = (await gateway.json('/peek')).body
    expect(rows.find((row: { id: string }) => row.id === made.id).hash).toStartWith('$argon2id$v=19$m=19456,t=2,p=1$')
    expect(JSON.stringify(rows)).not.toContain(secret)
    const event = await gateway.events.waitFor('key:created', ({ subject }) => subject === made.id)
    expect(JSON.stringify(event)).not.toContain(secret)
    expect(JSON.stringify(gateway.log)).not.toContain(secret)

    const { status, body } = await whoami(made.key)
    expect(status).toBe(200)
    expect(body).toMatchObject({ id: made.id, type: 'user', is_admin: false, scopes: ['rpc', 'api', 'approve'], via: `token:${made.id}` })
    expect((await gateway.json('/api/keys', { as: made.key })).body.error.code).toBe('insufficient_scope')
    expect((await gateway.fetch('/api/v1/auth/whoami', { as: '', headers: { 'x-api-key': made.key } })).status).toBe(200)
  })

  test('acts as its owner', async () => {
    const [one, two] = [await create({ owner: 'ada', kind: 'device' }), await create({ owner: 'ada' })]
    expect([(await whoami(one.key)).body.id, (await whoami(two.key)).body.id]).toEqual(['ada', 'ada'])
  })

  test('with a wrong secret, an unknown prefix, or no form at all is 401', async () => {
    const made = await create()
    const flipped = made.key.slice(0, -1) + (made.key.endsWith('A') ? 'B' : 'A')
    for (const token of [flipped, `ptk_000000000000_${'a'.repeat(43)}`, 'nonsense']) {
      const { status, body, headers } = await whoami(token)
      expect([status, body.error.code]).toEqual([401, 'invalid_api_key'])
      expect(headers.get('www-authenticate')).toContain('Bearer')
    }
  })

  test('is listed newest first, in pages by offset and by cursor', async () => {
    for (let n = 0; n < 3; n++) await create({ name: `page ${n}` })
    const first = (await gateway.json('/api/keys?limit=2')).body
    expect(first.keys.map((key: { name: string }) => key.name)).toEqual(['page 2', 'page 1'])
    expect(first.total).toBeGreaterThanOrEqual(3)
    const byOffset = (await gateway.json('/api/keys?limit=2&offset=2')).body
    const byCursor = (await gateway.json(`/api/keys?limit=2&cursor=${first.cursor}`)).body
    expect(byCursor.keys).toEqual(byOffset.keys)
    expect(byCursor.keys[0].name).toBe('page 0')
    expect((await gateway.json('/api/keys?cursor=nonsense')).status).toBe(400)
    expect((await gateway.json('/api/keys?limit=0')).status).toBe(400)
    expect((await gateway.json('/api/keys?limit=2.5')).status).toBe(400)
  })

  test('with an unknown scope is refused, naming the nearest', async () => {
    const { status, body } = await gateway.json('/api/keys', { method: 'POST', body: { scopes: ['admn'] } })
    expect([status, body.error.param]).toEqual([400, 'scopes'])
    expect(body.error.message).toContain('did you mean "admin"?')
  })

  test('takes quota_daily by both its names, and refuses unknown fields and past expiries', async () => {
    expect((await create({ quota_daily: 5 })).quotaDaily).toBe(5)
    expect((await create({ quotaDaily: 6 })).quotaDaily).toBe(6)
    for (const body of [{ scope: ['rpc'] }, { expiresAt: '2001-01-01T00:00:00Z' }, { expiresAt: 'tomorrow' }, { owner: 'key_x' }, { kind: 'robot' }]) {
      expect((await gateway.json('/api/keys', { method: 'POST', body })).status).toBe(400)
    }
  })
})

describe('changing a key', () => {
  test('takes effect at once, also for one whose verification is cached', async () => {
    const made = await create({ scopes: ['rpc', 'admin'] })
    expect((await whoami(made.key)).body.is_admin).toBe(true)
    const { status, body } = await gateway.json(`/api/keys/${made.id}`, { method: 'PATCH', body: { name: 'less', scopes: ['rpc'] } })
    expect([status, body.name, body.scopes]).toEqual([200, 'less', ['rpc']])
    expect((await whoami(made.key)).body.is_admin).toBe(false)
    expect((await gateway.events.waitFor('key:changed', ({ subject }) => subject === made.id)).data).toMatchObject({ scopes: ['rpc'] })
  })

  test('in name or quota alone leaves its streams alone', async () => {
    const made = await create()
    const stream = readSse(await gateway.fetch('/api/events', { as: made.key }))
    await stream.waitFor('ready')
    await gateway.json(`/api/keys/${made.id}`, { method: 'PATCH', body: { name: 'renamed', quotaDaily: 9 } })
    expect((await gateway.events.waitFor('key:changed', ({ subject }) => subject === made.id)).data).toMatchObject({ changed: ['name', 'quotaDaily'] })
    await gateway.json(`/api/keys/${made.id}`, { method: 'PATCH', body: { scopes: ['rpc'] } })
    await stream.ended
  })

  test('never gives an agent’s key the right to decide', async () => {
    const made = await create({ kind: 'agent' })
    expect((await gateway.json(`/api/keys/${made.id}`, { method: 'PATCH', body: { scopes: ['admin'] } })).status).toBe(403)
    expect((await gateway.json('/api/keys', { method: 'POST', body: { kind: 'agent', scopes: ['admin'] } })).status).toBe(403)
  })

  test('by rotation kills the old secret at once', async () => {
    const made = await create()
    expect((await whoami(made.key)).status).toBe(200)
    const { body } = await gateway.json(`/api/keys/${made.id}/rotate`, { method: 'POST' })
    expect([body.prefix, body.scopes]).toEqual([made.prefix, made.scopes])
    expect((await whoami(made.key)).status).toBe(401)
    expect((await whoami(body.key)).body.id).toBe(made.id)
  })

  test('of an unknown one is 404', async () => {
    for (const [method, path] of [
      ['GET', ''],
      ['PATCH', ''],
      ['DELETE', ''],
      ['POST', '/rotate'],
    ] as const) {
      const body = method === 'PATCH' ? {} : undefined
      expect((await gateway.json(`/api/keys/key_none${path}`, { method, body })).status).toBe(404)
    }
  })
})

describe('revoking a key', () => {
  test('kills it at once, and its streams end within a second', async () => {
    const made = await create()
    const other = await create()
    const stream = readSse(await gateway.fetch('/api/events', { as: made.key }))
    const bystander = readSse(await gateway.fetch('/api/events', { as: other.key }))
    await Promise.all([stream.waitFor('ready'), bystander.waitFor('ready')])

    const began = performance.now()
    expect((await gateway.json(`/api/keys/${made.id}`, { method: 'DELETE' })).body.revokedAt).toBeString()
    await stream.ended
    expect(performance.now() - began).toBeLessThan(1_000)
    expect((await whoami(made.key)).body.error.code).toBe('invalid_api_key')
    expect((await whoami(other.key)).status).toBe(200)
    await bystander.close()
  })

  test('leaves its row to those who ask for revoked ones, and cannot be done twice', async () => {
    const made = await create({ name: 'gone' })
    await gateway.json(`/api/keys/${made.id}`, { method: 'DELETE' })
    const names = async (query: string) => (await gateway.json(`/api/keys?limit=200${query}`)).body.keys.map((key: { name: string }) => key.name)
    expect(await names('')).not.toContain('gone')
    expect(await names('&revoked=true')).toContain('gone')
    expect((await gateway.json(`/api/keys/${made.id}`, { method: 'DELETE' })).status).toBe(404)
  })
})

describe('who is calling', () => {
  test('may be a token of the config', async () => {
    expect((await whoami(secretOfConfig)).body).toMatchObject({ id: 'ci', scopes: ['rpc'], via: 'token:ci' })
    expect((await whoami(`${secretOfConfig}x`)).status).toBe(401)
  })

  test('is echoed by ping, with or without a body', async () => {
    const ping = async (body?: unknown) => (await gateway.json('/v1/ping', { method: 'POST', body })).body
    expect(await ping({ message: 'hello' })).toEqual({ ok: true, echo: 'hello' })
    expect(await ping()).toEqual({ ok: true, echo: null })
    expect(await ping([1])).toEqual({ ok: true, echo: [1] })
    expect((await gateway.json('/v1/ping', { method: 'POST', body: '{' })).body.error.code).toBe('invalid_json')
    expect((await gateway.json('/v1/ping', { method: 'POST', as: '' })).body.error.code).toBe('missing_credentials')
  })

  test('learns the ways to authenticate without a key', async () => {
    const { status, body } = await gateway.json('/auth/config', { as: '' })
    expect([status, body.backend, body.methods[0].method]).toEqual([200, 'token', 'token'])
  })
})
