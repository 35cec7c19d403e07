import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { sendSlowly } from '../../test/fixtures/slow-request.ts'

let gateway: TestGateway
let id: string
beforeAll(async () => {
  gateway = await startTestGateway({ listen: true })
  id = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'mine' } })).body.id
})
afterAll(() => gateway.stop())

const cursor = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`

describe('what a caller makes up is refused as the caller’s fault', () => {
  const queries = {
    'a cursor of a bare number': `cursor=${cursor(['1', 'key_0'])}`,
    'a cursor beyond the calendar of the database': `cursor=${cursor(['+275760-09-13T00:00:00.000Z', 'key_0'])}`,
    'a cursor of a day that is none': `cursor=${cursor(['2026-02-30T00:00:00.000Z', 'key_0'])}`,
    'a cursor of the year 0': `cursor=${cursor(['0000-01-01T00:00:00.000Z', 'key_0'])}`,
    'a cursor with a NUL': `cursor=${cursor(['2026-01-01T00:00:00.000Z', '\u0000'])}`,
    'a cursor that is no list': `cursor=${cursor({ createdAt: 1 })}`,
    'an offset beyond every integer': 'offset=1e300',
    'a fraction of an offset': 'offset=0.5',
  }
  test.each(Object.entries(queries))('%s', async (_, query) => {
    const { status, body } = await gateway.json(`/api/keys?${query}`)
    expect([status, body.error?.code]).toEqual([400, 'validation_failed'])
  })

  const drafts = {
    'a name with a NUL': { name: 'a\u0000b' },
    'a name that a terminal would obey': { name: '\u001b[2Jgone' },
    'a name of two lines': { name: 'a\nb' },
    'a quota beyond the column': { quotaDaily: 2_147_483_648 },
    'the same by its other name': { quota_daily: 9_007_199_254_740_991 },
  }
  test.each(Object.entries(drafts))('%s, for a new key and for one that is changed', async (_, body) => {
    for (const [method, path] of [
      ['POST', '/api/keys'],
      ['PATCH', `/api/keys/${id}`],
    ] as const) {
      const answer = await gateway.json(path, { method, body })
      expect([answer.status, answer.body.error?.code]).toEqual([400, 'validation_failed'])
    }
  })

  test('scopes through the prototype', async () => {
    const made = await gateway.json('/api/keys', { method: 'POST', body: '{"scopes":["rpc"],"__proto__":{"scopes":["admin"]}}' })
    expect([made.status, made.body.error?.code]).toEqual([400, 'validation_failed'])
  })

  test('a body that is far too long for a key', async () => {
    const body = { name: 'x'.repeat(100_000) }
    expect((await gateway.json('/api/keys', { method: 'POST', body })).body.error.code).toBe('body_too_large')
    expect((await gateway.json(`/api/keys/${id}`, { method: 'PATCH', body })).body.error.code).toBe('body_too_large')
    expect((await gateway.json('/v1/ping', { method: 'POST', body })).body.error.code).toBe('body_too_large')
  })

  test('a body nested so deep that showing it again would take the stack', async () => {
    const { status, body } = await gateway.json('/v1/ping', { method: 'POST', body: nested(30_000) })
    expect([status, body.error?.code]).toEqual([400, 'invalid_json'])
    expect((await gateway.json('/v1/ping', { method: 'POST', body: nested(50) })).status).toBe(200)
  })
})

test('a body nested without end is not looked into: that takes time by the square of its depth', async () => {
  for (const path of ['/api/keys', '/api/tickets']) expect((await gateway.json(path, { method: 'POST', body: nested(30_000) })).status).toBe(413)
})

describe('a key that dies while its request is still being sent', () => {
  const deaths = {
    revoked: (id: string) => gateway.json(`/api/keys/${id}`, { method: 'DELETE' }),
    rotated: (id: string) => gateway.json(`/api/keys/${id}/rotate`, { method: 'POST' }),
    'made less': (id: string) => gateway.json(`/api/keys/${id}`, { method: 'PATCH', body: { scopes: ['rpc'] } }),
  }
  test.each(Object.entries(deaths))('makes and changes no key after it was %s', async (_, die) => {
    const { body: mine } = await gateway.json('/api/keys', { method: 'POST', body: { name: 'dying', scopes: ['admin'] } })
    const late = [
      await sendSlowly(gateway.url ?? '', mine.key, 'POST', '/api/keys', { name: 'ghost', scopes: ['admin'] }),
      await sendSlowly(gateway.url ?? '', mine.key, 'PATCH', `/api/keys/${mine.id}`, { scopes: ['admin'], name: 'ghost' }),
      await sendSlowly(gateway.url ?? '', mine.key, 'PATCH', `/api/keys/${id}`, { name: 'ghost' }),
    ]
    expect((await die(mine.id)).status).toBe(200)
    const statuses = await Promise.all(late.map((slow) => slow.finish()))
    for (const status of statuses) expect([401, 403, 404]).toContain(status)
    const { keys } = (await gateway.json('/api/keys?limit=200')).body
    expect(keys.filter(({ name }: { name: string }) => name === 'ghost')).toEqual([])
  })
})
