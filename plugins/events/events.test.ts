import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { EventSource } from 'eventsource'
import { admin, api, defineEvent, definePlugin, guard, rpc, t } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { sendSlowly } from '../../test/fixtures/slow-request.ts'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const data = t.Object({ n: t.Integer() })
const forRpc = defineEvent('probe:happened', data, { scope: rpc, durable: true })
const forAdmin = defineEvent('probe:administered', data, { scope: admin, durable: true })
const forApi = defineEvent('probe:called', data, { scope: api, durable: true })
const live = defineEvent('probe:ticked', data, { scope: rpc, durable: false })
const types = { happened: forRpc, administered: forAdmin, called: forApi } as const

/** Publishes what a test asks for. */
const probe = definePlugin({
  id: 'probe',
  version: '0.1.0',
  api: 1,
  summary: 'Publishes on demand',
  events: [forRpc, forAdmin, forApi, live],
  paths: ['/probe'],
  setup: (ctx) => ({
    routes: [
      guard(admin, (app) =>
        app.post(
          '/probe',
          async ({ body }) => {
            if (body.type === 'ticked') ctx.publish(live, { n: body.n })
            else await ctx.publish(types[body.type], { n: body.n }, { principal: body.principal })
            return { done: true }
          },
          {
            body: t.Object({ type: t.Enum(['happened', 'administered', 'called', 'ticked']), n: t.Integer(), principal: t.Optional(t.String()) }),
            response: t.Object({ done: t.Boolean() }),
            detail: { summary: 'Publish' },
          },
        ),
      ),
    ],
  }),
})

let gateway: TestGateway
let key: { id: string; key: string }
beforeAll(async () => {
  gateway = await startTestGateway({ plugins: [probe], listen: true })
  key = await newKey(['rpc'])
})
afterAll(() => gateway.stop())

const newKey = async (scopes: string[]) => (await gateway.json('/api/keys', { method: 'POST', body: { scopes } })).body
const publish = (type: string, n: number, principal?: string) =>
  gateway.json('/probe', { method: 'POST', body: { type, n, ...(principal ? { principal } : {}) } })
const newTicket = async (path: string, as = key.key) => (await gateway.json('/api/tickets', { method: 'POST', as, body: { path } })).body
const open = async (path: string, init: { as?: string; headers?: Record<string, string> } = {}) => readSse(await gateway.fetch(path, { as: key.key, ...init }))
const numbers = (events: readonly { event: string; data: string }[]) =>
  events.filter(({ event }) => event.startsWith('probe:')).map((event) => JSON.parse(event.data).n)

describe('GET /api/events', () => {
  test('begins with ready and its cursor, then sends named events, with an id only on durable ones', async () => {
    const response = await gateway.fetch('/api/events?types=probe:*', { as: key.key })
    expect(response.headers.get('content-type')).toStartWith('text/event-stream')
    const stream = readSse(response)
    const ready = await stream.waitFor('ready')
    expect(ready.id).toMatch(/^\d+-\d+$/)
    expect(JSON.parse(ready.data).cursor).toBe(ready.id)
    await publish('ticked', 1)
    expect((await stream.waitFor('probe:ticked')).id).toBe(ready.id)
    await publish('happened', 2)
    const happened = await stream.waitFor('probe:happened')
    expect(JSON.parse(happened.data)).toEqual({ n: 2 })
    expect(happened.id).not.toBe(ready.id)
    await stream.close()
  })

  test('resumes after Last-Event-ID, which beats since', async () => {
    const first = await open('/api/events?types=probe:*')
    const { id: start } = await first.waitFor('ready')
    for (const n of [11, 12, 13]) await publish('happened', n)
    const middle = await first.waitFor('probe:happened', ({ data }) => data.includes('12'))
    await first.close()

    const bySince = await open(`/api/events?types=probe:*&since=${start}`)
    await bySince.waitFor('probe:happened', ({ data }) => data.includes('13'))
    expect(numbers(bySince.events)).toEqual([11, 12, 13])
    await bySince.close()
    const byHeader = await open(`/api/events?types=probe:*&since=${start}`, { headers: { 'last-event-id': middle.id } })
    await byHeader.waitFor('probe:happened', ({ data }) => data.includes('13'))
    expect(numbers(byHeader.events)).toEqual([13])
    await byHeader.close()
  })

  test('shows nobody an event beyond his scopes or of another principal', async () => {
    const other = await newKey(['rpc', 'api'])
    const readers = {
      mine: await open('/api/events?types=probe:*'),
      others: await open('/api/events?types=probe:*', { as: other.key }),
      admins: await open('/api/events?types=probe:*', { as: gateway.adminToken }),
    }
    await Promise.all(Object.values(readers).map((reader) => reader.waitFor('ready')))
    await publish('administered', 21)
    await publish('called', 22)
    await publish('happened', 23, key.id)
    await publish('happened', 24, other.id)
    await publish('happened', 25)
    for (const reader of Object.values(readers)) await reader.waitFor('probe:happened', ({ data }) => data.includes('25'))
    expect(numbers(readers.mine.events)).toEqual([23, 25])
    expect(numbers(readers.others.events)).toEqual([22, 24, 25])
    expect(numbers(readers.admins.events)).toEqual([21, 22, 23, 24, 25])
    await Promise.all(Object.values(readers).map((reader) => reader.close()))

    const activity = async (as: string) => (await gateway.json('/api/activity?types=probe:*&limit=5', { as })).body.entries.map((entry: any) => entry.data.n)
    expect((await activity(key.key)).slice(0, 2)).toEqual([25, 23])
    expect(await activity(gateway.adminToken)).toEqual([25, 24, 23, 22, 21])
  })

  test('speaks CloudEvents when asked', async () => {
    const stream = await open('/api/events?types=probe:happened&envelope=cloudevents')
    await stream.waitFor('ready')
    await publish('happened', 31)
    const event = JSON.parse((await stream.waitFor('probe:happened')).data)
    expect(event).toMatchObject({ specversion: '1.0', type: 'probe:happened', data: { n: 31 } })
    await stream.close()
  })

  test.each(['since=yesterday', 'types=every thing', 'envelope=xml'])('refuses ?%s with 400', async (query) => {
    expect((await gateway.fetch(`/api/events?${query}`, { as: key.key })).status).toBe(400)
  })

  test('needs the scope rpc', async () => {
    const narrow = await newKey(['api'])
    expect((await gateway.fetch('/api/events', { as: narrow.key })).status).toBe(403)
    expect((await gateway.fetch('/api/events', { as: '' })).status).toBe(401)
  })
})

describe('GET /api/activity', () => {
  test('has the newest first, 50 unless told otherwise, 100 at most', async () => {
    for (const n of [41, 42]) await publish('happened', n)
    await gateway.events.waitFor('probe:happened', ({ data }) => (data as { n: number }).n === 42)
    const { body } = await gateway.json('/api/activity?limit=2&types=probe:*', { as: key.key })
    expect(body.count).toBe(2)
    expect(body.entries.map((entry: any) => [entry.type, entry.data.n, entry.source])).toEqual([
      ['probe:happened', 42, 'probe'],
      ['probe:happened', 41, 'probe'],
    ])
    for (const limit of [0, 101, 'x']) expect((await gateway.fetch(`/api/activity?limit=${limit}`)).status).toBe(400)
  })
})

describe('a ticket', () => {
  test('opens its stream without a header, and a cut EventSource comes back by itself', async () => {
    const { url, expiresAt } = await newTicket('/api/events?types=probe:*')
    expect(Date.parse(expiresAt) - Date.now()).toBeWithin(50_000, 60_001)
    const got: number[] = []
    const connections: Response[] = []
    const source = new EventSource(new URL(url, gateway.url ?? ''), {
      fetch: async (input, init) => {
        const response = await fetch(input, init)
        connections.push(response)
        return response
      },
    })
    const arrived = (n: number) =>
      new Promise<void>((resolve) => source.addEventListener('probe:happened', ({ data }) => JSON.parse(data).n === n && resolve()))
    source.addEventListener('probe:happened', ({ data }) => got.push(JSON.parse(data).n))
    await new Promise((resolve) => source.addEventListener('ready', resolve, { once: true }))
    const first = arrived(51)
    await publish('happened', 51)
    await first
    // The gateway ends every reader, as it does when it stops: the client resumes by the same URL.
    const again = arrived(52)
    const missed = arrived(53)
    gateway.gateway.kernel.revoke(`token:${key.id}`)
    await publish('happened', 52)
    await publish('happened', 53)
    await Promise.all([again, missed])
    source.close()
    expect(got).toEqual([51, 52, 53])
    expect(connections.map(({ status }) => status)).toEqual([200, 200])
  }, 15_000)

  test('is good for its own path only, and for one stream at a time', async () => {
    const { url, ticket } = await newTicket('/api/events')
    expect((await gateway.fetch(`/api/activity?ticket=${ticket}`, { as: '' })).status).toBe(401)
    const stream = await open(url, { as: '' })
    const ready = await stream.waitFor('ready')
    expect((await gateway.fetch(url, { as: '' })).status).toBe(409)
    // The same reader, who comes back before the gateway has noticed that he left, takes over.
    const again = await open(url, { as: '', headers: { 'last-event-id': ready.id } })
    await Promise.all([again.waitFor('ready'), stream.ended])
    await again.close()
  })

  test('dies with its key, and its stream too', async () => {
    const mortal = await newKey(['rpc'])
    const [used, unused] = [await newTicket('/api/events', mortal.key), await newTicket('/api/events', mortal.key)]
    const stream = await open(used.url, { as: '' })
    await stream.waitFor('ready')
    await gateway.json(`/api/keys/${mortal.id}`, { method: 'DELETE' })
    await stream.ended
    for (const { url } of [used, unused]) {
      let status = 0
      for (let tries = 0; tries < 100 && status !== 401; tries++) status = (await gateway.fetch(url, { as: '', headers: { 'last-event-id': '1-1' } })).status
      expect(status).toBe(401)
    }
  })

  test('is not made for what is no stream', async () => {
    for (const [path, status] of [
      ['/api/keys', 404],
      ['//evil.example/api/events', 400],
    ] as const) {
      expect((await gateway.json('/api/tickets', { method: 'POST', as: key.key, body: { path } })).status).toBe(status)
    }
  })

  test('never stands in a log', async () => {
    const { url, ticket } = await newTicket('/api/events')
    const stream = await open(url, { as: '' })
    await stream.waitFor('ready')
    await stream.close()
    expect(JSON.stringify(gateway.log)).not.toContain(ticket)
  })
})

describe('a key that is rotated', () => {
  const rotate = async (id: string) => (await gateway.json(`/api/keys/${id}/rotate`, { method: 'POST' })).body.key as string

  test('asks for tickets at once: they outlive the news of the rotation, those of the old key do not', async () => {
    const [mine, other] = [await newKey(['rpc']), await newKey(['rpc'])]
    const before = [await newTicket('/api/events', mine.key), await newTicket('/api/events', other.key)]
    const { url } = await newTicket('/api/events', await rotate(mine.id))
    // Cursors go in order: when the second rotation has arrived, the first one has.
    await rotate(other.id)
    for (const { url } of before) {
      let status = 0
      for (let tries = 0; tries < 100 && status !== 401; tries++) status = (await gateway.fetch(url, { as: '', headers: { 'last-event-id': '1-1' } })).status
      expect(status).toBe(401)
    }
    const stream = await open(url, { as: '' })
    await stream.waitFor('ready')
    await stream.close()
  })

  test('gives none to a request that came with the old key', async () => {
    const old = await newKey(['rpc'])
    const late = await sendSlowly(gateway.url ?? '', old.key, 'POST', '/api/tickets', { path: '/api/events' })
    await rotate(old.id)
    await gateway.events.waitFor('key:rotated', ({ subject }) => subject === old.id)
    expect(await late.finish()).toBe(401)
  })
})

test('a request for a ticket that its key does not live to see gets none', async () => {
  const dying = await newKey(['rpc'])
  const late = await sendSlowly(gateway.url ?? '', dying.key, 'POST', '/api/tickets', { path: '/api/events' })
  await gateway.json(`/api/keys/${dying.id}`, { method: 'DELETE' })
  await gateway.events.waitFor('key:revoked', ({ subject }) => subject === dying.id)
  expect(await late.finish()).toBe(401)
})
