import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { audited, delta, emptyBus, noted, principalOf, root, StreamReader, silentLog, startTestBus, until } from '../../test/fixtures/bus.ts'
import { openPgliteStore } from '../../test/fixtures/pglite.ts'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import type { GatewayEvent } from '../contract/event.ts'
import { defineEvent, rpc } from '../contract/refs.ts'
import { setContext } from '../contract/request.ts'
import { t } from '../contract/schema.ts'
import { openStore, type Store } from '../store/open.ts'
import { busMigrations } from './bus.ts'

let postgres: TestPostgres
let dataDir: string
const stores: Partial<Record<'postgres' | 'pglite', Store>> = {}

beforeAll(async () => {
  postgres = await startPostgres()
  dataDir = await mkdtemp(join(tmpdir(), 'portico-bus-'))
  stores.postgres = await openStore({ url: await postgres.newDatabase(), log: silentLog })
  stores.pglite = await openPgliteStore(dataDir)
  for (const store of Object.values(stores)) await store.migrate('kernel', busMigrations)
}, 60_000)
afterAll(async () => {
  for (const store of Object.values(stores)) await store.close()
  await postgres.stop()
  await rm(dataDir, { recursive: true, force: true })
})

describe.each(['postgres', 'pglite'] as const)('on %s', (kind) => {
  const store = () => stores[kind] as Store
  const start = (options: Parameters<typeof startTestBus>[0] = {}) => startTestBus({ store: store(), ...options })
  const write = (bus: Awaited<ReturnType<typeof start>>['bus'], count: number, from = 0) =>
    Promise.all(Array.from({ length: count }, (_, n) => bus.publish('notes', noted, { n: from + n })))
  beforeEach(() => emptyBus(store()))

  test('a live event is heard before publish returns, with uid, time, source, subject, principal and trace, and has no id', async () => {
    await using node = await start()
    const heard: GatewayEvent[] = []
    node.bus.on('watcher', delta, (event) => heard.push(event))
    const request = new Request('http://localhost/')
    setContext(request, { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' } as never)
    expect(node.bus.publish('notes', delta, { n: 1 }, { subject: 'a', principal: 'ann', request })).toBeUndefined()
    expect(heard).toEqual([
      {
        ...{ type: 'note:delta', data: { n: 1 }, source: 'notes', subject: 'a', principal: 'ann' },
        ...{ uid: expect.stringMatching(/^[0-9a-f-]{36}$/), time: expect.stringMatching(/^\d{4}-.*\.\d{3}Z$/), trace: expect.stringContaining('0af7651916cd') },
      },
    ])
    expect((await store().pool.query('select from portico_events')).rowCount).toBe(0)
  })

  test('a durable event has its row when publish settles, then an id, and is heard once with the same uid everywhere', async () => {
    await using node = await start()
    const heard: GatewayEvent[] = []
    node.bus.on('watcher', noted, (event) => heard.push(event))
    const reader = new StreamReader(node.bus, { envelope: 'cloudevents' })
    await node.bus.publish('notes', noted, { n: 1, text: 'a "b"\n\u0000 ü' }, { subject: 's', principal: 'ann' })
    await until(() => heard.length === 1)
    const [event] = heard
    expect(event).toMatchObject({
      type: 'note:written',
      data: { n: 1, text: 'a "b"\n\u0000 ü' },
      source: 'notes',
      subject: 's',
      principal: 'ann',
      id: expect.stringMatching(/^\d{13}-\d+$/),
    })
    const [, frame] = await reader.take(2)
    expect(frame).toEqual({
      ...{ id: event?.id, event: 'note:written' },
      data: {
        ...{ specversion: '1.0', id: event!.uid, source: 'notes', type: 'note:written', time: event!.time, subject: 's' },
        ...{ datacontenttype: 'application/json', data: event!.data },
      },
    })
    expect(await node.bus.readEvents({ principal: root, limit: 10 })).toEqual([event!])
    await reader.cancel()
  })

  test('publishes of one moment share one insert and keep their order', async () => {
    await using node = await start()
    const { pool } = store()
    const query = pool.query.bind(pool)
    const statements: string[] = []
    pool.query = ((...args: any[]) => {
      statements.push(String(args[0]))
      return (query as any)(...args)
    }) as never
    const heard: number[] = []
    node.bus.on('watcher', noted, ({ data }) => heard.push(data.n))
    await write(node.bus, 100)
    pool.query = query as never
    expect(statements.filter((text) => text.includes('insert into portico_outbox'))).toHaveLength(1)
    await until(() => heard.length === 100)
    expect(heard).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })

  test('with tx an event exists exactly if the transaction commits, and is heard after that', async () => {
    await using node = await start({ periods: { poll: 60_000 } })
    const heard: number[] = []
    node.bus.on('watcher', noted, ({ data }) => heard.push(data.n))
    let committed = false
    await store().db.transaction(async (tx) => {
      await node.bus.publish('notes', noted, { n: 1 }, { tx })
      await tx.transaction(async (inner) => node.bus.publish('notes', noted, { n: 2 }, { tx: inner }))
      await Bun.sleep(30)
      committed = heard.length === 0
    })
    await until(() => heard.length === 2)
    await expect(
      store().db.transaction(async (tx) => {
        await node.bus.publish('notes', noted, { n: 3 }, { tx })
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    await write(node.bus, 1, 4)
    await until(() => heard.length === 3)
    expect(committed).toBe(true)
    expect(heard).toEqual([1, 2, 4])
  })

  test('misuse throws at once and by name', async () => {
    await using node = await start()
    const { bus } = node
    expect(() => bus.publish('other', noted, { n: 1 })).toThrow('[plugin other] The event "note:written" cannot be published: it belongs to notes')
    const slip = defineEvent('note:writen', t.Object({}), { scope: rpc, durable: true })
    expect(() => bus.publish('notes', slip, {})).toThrow('did you mean "note:written"?')
    expect(() => bus.publish('notes', noted, { n: 'one' })).toThrow('The data of "note:written" does not fit its schema at /n')
    expect(() => bus.publish('notes', delta, { n: 1, more: 2 })).toThrow('at /more')
    expect(() => bus.publish('notes', noted, { n: 1 }, { subject: 'a\0' })).toThrow('NUL')
    expect(() => bus.publish('notes', noted, { n: 1, text: 'x'.repeat(1_100_000) })).toThrow('more than a megabyte')
    expect(() => bus.on('notes', delta, () => {}, { cursor: 'c' })).toThrow('has no cursor')
    await store().db.transaction(async (tx) => {
      expect(() => bus.publish('notes', noted, { n: 1 })).toThrow('was published inside a transaction without it')
      expect(() => bus.publish('notes', delta, { n: 1 }, { tx })).toThrow('is live and cannot be part of a transaction')
    })
    expect(() => bus.eventStream({ principal: root, since: 'yesterday', request: new StreamReader(bus).connection.request })).toThrow('not of the form')
  })

  test('a listener that throws or rejects is reported under its owner, and neither publisher nor others feel it', async () => {
    await using node = await start()
    const heard: number[] = []
    node.bus.on('bad', delta, () => {
      throw new Error('sync')
    })
    node.bus.on('worse', delta, async () => {
      throw new Error('async')
    })
    node.bus.on('slow', delta, () => new Promise(() => {}))
    node.bus.on('good', delta, ({ data }) => heard.push(data.n))
    const undo = node.bus.on('gone', delta, () => heard.push(-1))
    undo()
    void node.bus.publish('notes', delta, { n: 1 })
    expect(heard).toEqual([1])
    await until(() => node.errors.length === 2)
    expect(node.errors.map(({ owner, error }) => `${owner}: ${(error as Error).message}`).sort()).toEqual(['bad: sync', 'worse: async'])
  })

  test('a live listener may use the database although it was told inside a transaction', async () => {
    await using node = await start()
    const { promise, resolve } = Promise.withResolvers<unknown>()
    node.bus.on('watcher', delta, async () => resolve(await store().db.execute('select 1')))
    await store().db.transaction(async () => {
      void node.bus.publish('notes', delta, { n: 1 })
    })
    expect(await promise).toBeTruthy()
    expect(node.errors).toEqual([])
  })

  test('a stream begins with ready, a resumed one with what was missed, each once and in order', async () => {
    await using node = await start()
    const first = new StreamReader(node.bus)
    expect(await first.next()).toMatchObject({ retry: '3000', event: 'ready', id: '0-0', data: { cursor: '0-0' } })
    await first.cancel()
    expect(first.connection.released).toBe(1)
    expect(first.connection.timeouts).toEqual([0])
    await write(node.bus, 3_000)
    const second = new StreamReader(node.bus, { since: '0-0' })
    const frames = await second.take(3_001)
    expect(frames.slice(1).map(({ data }) => data.n)).toEqual(Array.from({ length: 3_000 }, (_, n) => n))
    const third = new StreamReader(node.bus, { since: frames[1_500]!.id })
    expect((await third.take(1_501)).map(({ id }) => id)).toEqual(frames.slice(1_500).map(({ id }) => id))
    await Promise.all([second.cancel(), third.cancel()])
  })

  test('a resumed stream loses and doubles nothing while events keep coming, also from the log of another process', async () => {
    await using writer = await start()
    await write(writer.bus, 1_500)
    await until(async () => (await writer.bus.readEvents({ principal: root, limit: 1 }))[0]?.data !== undefined)
    await using node = await start()
    const reader = new StreamReader(node.bus, { since: '0-0' })
    const more = (async () => {
      for (let n = 1_500; n < 3_000; n += 50) await write(writer.bus, 50, n)
    })()
    const frames = await reader.take(3_001)
    await more
    expect(frames.slice(1).map(({ data }) => data.n)).toEqual(Array.from({ length: 3_000 }, (_, n) => n))
    await reader.cancel()
  })

  test('a stream shows what the principal may see and asked for', async () => {
    await using node = await start()
    const open = (options: object) => new StreamReader(node.bus, options)
    const ann = open({ principal: principalOf('ann', 'rpc') })
    const admin = open({ types: ['audit:*'] })
    const nobody = open({ principal: principalOf('eve', 'api') })
    const cursor = (await Promise.all([ann.next(), admin.next(), nobody.next()]))[0]!.id
    await node.bus.publish('notes', noted, { n: 1 }, { principal: 'bob' })
    await node.bus.publish('notes', noted, { n: 2 }, { principal: 'ann' })
    void node.bus.publish('notes', delta, { n: 3 }, { principal: 'bob' })
    await node.bus.publish('notes', audited, { n: 4 })
    await node.bus.publish('notes', noted, { n: 5 })
    expect((await ann.take(2)).map(({ data }) => data.n)).toEqual([2, 5])
    expect((await admin.next())?.data.n).toBe(4)
    // The same from the log.
    await using other = await start()
    const replayed = new StreamReader(other.bus, { principal: principalOf('ann', 'rpc'), since: cursor })
    expect((await replayed.take(3)).slice(1).map(({ data }) => data.n)).toEqual([2, 5])
    expect((await node.bus.readEvents({ principal: principalOf('ann', 'rpc'), limit: 10 })).map(({ data }: any) => data.n)).toEqual([5, 2])
    expect((await node.bus.readEvents({ principal: root, types: ['audit:*'], limit: 10 })).map(({ data }: any) => data.n)).toEqual([4])
    node.bus.endStreams()
    expect(await nobody.next()).toBeUndefined()
    expect(await ann.next()).toBeUndefined()
    await replayed.cancel()
  })

  test('a cursor out of the window gets gap first; one beyond the log is told as well', async () => {
    await using node = await start({ retention: { maxAgeDays: 7, maxRows: 100 }, periods: { trim: 20 } })
    await write(node.bus, 1_000)
    await until(() => node.bus.stats().counters['bus.appended'] === 1_000)
    await until(async () => (await store().pool.query('select from portico_events')).rowCount === 100)
    await using other = await start()
    const late = new StreamReader(other.bus, { since: '0-1' })
    const [ready, gap, oldest] = await late.take(3)
    expect(ready).toMatchObject({ event: 'ready', id: '0-1' })
    expect(gap).toEqual({ event: 'gap', data: { oldest: oldest!.id } })
    expect(oldest?.data.n).toBe(900)
    const future = new StreamReader(other.bus, { since: '9000000000000-0' })
    const [, reset, told] = await future.take(3)
    expect(reset?.data.cursor).not.toBe('9000000000000-0')
    expect(told).toEqual({ event: 'gap', data: { oldest: reset!.data.cursor } })
    await write(node.bus, 1, 7)
    expect((await future.next())?.data.n).toBe(7)
    await Promise.all([late.cancel(), future.cancel()])
  })

  test('events go by age as well, the newest stays, and ids go on rising', async () => {
    await using node = await start({ retention: { maxAgeDays: 7, maxRows: 1_000 }, periods: { trim: 20 } })
    const week = BigInt(Date.now() - 8 * 86_400_000) * 1_000_000n
    await store().pool.query(
      `insert into portico_events select ${week} + n, gen_random_uuid(), 'note:written', 'notes', null, null, null, now(), '{"n":1}' from generate_series(1, 50) n`,
    )
    await until(async () => (await store().pool.query('select from portico_events')).rowCount === 1)
    await write(node.bus, 2)
    await until(async () => (await store().pool.query('select from portico_events')).rowCount === 2)
    const { rows } = await store().pool.query('select trimmed from portico_log')
    expect(BigInt(rows[0].trimmed)).toBe(week + 50n)
  })

  test('what a crash left in the outbox is appended at the start', async () => {
    await store().pool.query(
      `insert into portico_outbox (uid, type, source, time, data) values ('6f1d7c4e-3c55-4b0e-9a39-8a6f6cf7f6aa', 'note:written', 'notes', now(), '{"n":42}')`,
    )
    await using node = await start()
    expect(await node.bus.readEvents({ principal: root, limit: 5 })).toMatchObject([{ uid: '6f1d7c4e-3c55-4b0e-9a39-8a6f6cf7f6aa', data: { n: 42 } }])
  })

  test('stop resolves when all that was published is in the log', async () => {
    const node = await start()
    const written = write(node.bus, 700)
    await node.stop()
    await written
    expect((await store().pool.query('select from portico_events')).rowCount).toBe(700)
    expect((await store().pool.query('select from portico_outbox')).rowCount).toBe(0)
  })

  test('stats name what happens', async () => {
    await using node = await start()
    node.bus.on('watcher', noted, () => {})
    const reader = new StreamReader(node.bus)
    await reader.next()
    await write(node.bus, 3)
    await reader.take(3)
    expect(node.bus.stats()).toMatchObject({
      gauges: { 'bus.readers': 1, 'bus.queue.bytes': 0, 'bus.tail.events': 3, 'bus.outbox.pending': 0, 'bus.subscriptions': 0 },
      counters: { 'bus.published.durable': 3, 'bus.appended': 3, 'bus.delivered': 3, 'bus.readers.cut': 0 },
    })
    await reader.cancel()
    expect(node.bus.stats().gauges['bus.readers']).toBe(0)
  })
})
