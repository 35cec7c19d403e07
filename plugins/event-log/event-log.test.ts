import { describe, expect, spyOn, test } from 'bun:test'
import type { EventDelivery, GatewayEvent } from 'portico'
import { startTestGateway } from 'portico/testkit'
import { noted, root, StreamReader } from '../../test/fixtures/bus.ts'
import { useBuses, useLogStores } from '../../test/fixtures/log-stores.ts'
import { until } from '../../test/fixtures/until.ts'

const stores = useLogStores()

describe.each(['postgres', 'pglite'] as const)('on %s', (kind) => {
  const { store, start, write } = useBuses(stores, kind)

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

  test('the JSON of an event goes from its row to its readers as it stands, and is parsed when the first listener asks', async () => {
    await using node = await start()
    const seen: EventDelivery[] = []
    node.bus.subscribeAll((event) => seen.push(event))
    using parse = spyOn(JSON, 'parse')
    await node.bus.publish('notes', noted, { n: 1, text: 'a "b"' })
    await until(() => seen.length === 1)
    const [delivery] = seen as [EventDelivery]
    expect([delivery.type, delivery.principal, delivery.json]).toEqual(['note:written', undefined, '{"n":1,"text":"a \\"b\\""}'])
    expect(parse).not.toHaveBeenCalled()
    expect(delivery.event.data).toEqual({ n: 1, text: 'a "b"' })
    expect(delivery.event).toBe(delivery.event)
    expect(parse).toHaveBeenCalledTimes(1)
  })

  test('a batch gathers events for an SQL function: checked at once, written by its call in their order, delivered when it says so', async () => {
    await using node = await start({ periods: { poll: 60_000 } })
    const heard: number[] = []
    node.bus.on('watcher', noted, ({ data }) => heard.push(data.n))
    const batch = node.bus.batch()
    for (let n = 0; n < 3; n++) await node.bus.publish('notes', noted, { n, text: '"\\ \u0000 ü' }, { tx: batch.tx })
    expect(() => node.bus.publish('notes', noted, { n: 'x' }, { tx: batch.tx })).toThrow('does not fit its schema')
    expect(() => batch.tx.execute('select 1')).toThrow('takes events and nothing else')
    const rows = async () => (await store().pool.query('select 1 from event_log_outbox union all select 1 from event_log_events')).rowCount
    expect(await rows()).toBe(0)
    await store().pool.query('select event_log_put($1)', [batch.json()])
    expect(await rows()).toBe(3)
    batch.committed()
    await until(() => heard.length === 3)
    expect(heard).toEqual([0, 1, 2])
    expect((await node.bus.readEvents({ principal: root, limit: 1 }))[0]?.data).toEqual({ n: 2, text: '"\\ \u0000 ü' })
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
    expect(statements.filter((text) => text.includes('insert into event_log_outbox'))).toHaveLength(1)
    await until(() => heard.length === 100)
    expect(heard).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })

  test('events go by age as well, the newest stays, and ids go on rising', async () => {
    await using node = await start({ retention: { maxAgeDays: 7, maxRows: 1_000 }, periods: { trim: 20 } })
    const week = BigInt(Date.now() - 8 * 86_400_000) * 1_000_000n
    await store().pool.query(
      `insert into event_log_events select ${week} + n, gen_random_uuid(), 'note:written', 'notes', null, null, null, now(), '{"n":1}' from generate_series(1, 50) n`,
    )
    await until(async () => (await store().pool.query('select from event_log_events')).rowCount === 1)
    await write(node.bus, 2)
    await until(async () => (await store().pool.query('select from event_log_events')).rowCount === 2)
    const { rows } = await store().pool.query('select trimmed from event_log_state')
    expect(BigInt(rows[0].trimmed)).toBe(week + 50n)
  })

  test('what was there before a start is read when the first reader asks for it, once for all', async () => {
    await using before = await start()
    await write(before.bus, 30)
    await until(() => before.bus.stats().gauges['bus.tail.events'] === 30)
    const [oldest] = await before.bus.readEvents({ principal: root, limit: 30 }).then((events) => events.toReversed())
    await before.stop()
    await using node = await start()
    expect(node.bus.stats().gauges['bus.tail.events']).toBe(0)
    const readers = Array.from({ length: 20 }, () => new StreamReader(node.bus, { since: oldest?.id }))
    await write(node.bus, 1, 30)
    for (const reader of readers) {
      const seen: number[] = []
      while (seen.at(-1) !== 30) {
        const frame = await reader.next()
        if (frame?.event === 'note:written') seen.push(frame.data.n ?? frame.data.data.n)
      }
      expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => n + 1))
      await reader.cancel()
    }
    expect(node.bus.stats().gauges['bus.tail.events']).toBe(31)
  })

  test('what a crash left in the outbox is appended at the start', async () => {
    await store().pool.query(
      `insert into event_log_outbox (uid, type, source, time, data) values ('6f1d7c4e-3c55-4b0e-9a39-8a6f6cf7f6aa', 'note:written', 'notes', now(), '{"n":42}')`,
    )
    await using node = await start()
    expect(await node.bus.readEvents({ principal: root, limit: 5 })).toMatchObject([{ uid: '6f1d7c4e-3c55-4b0e-9a39-8a6f6cf7f6aa', data: { n: 42 } }])
  })

  test('stop resolves when all that was published is in the log', async () => {
    const node = await start()
    const written = write(node.bus, 700)
    await node.stop()
    await written
    expect((await store().pool.query('select from event_log_events')).rowCount).toBe(700)
    expect((await store().pool.query('select from event_log_outbox')).rowCount).toBe(0)
  })
})

test('its retention stands in [event-log], or in [bus]', async () => {
  const retentionOf = async (config: string) => {
    await using gateway = await startTestGateway({ only: [], config })
    return (gateway.gateway.kernel.config().values as { 'event-log': { retention: unknown } })['event-log'].retention
  }
  expect(await retentionOf('')).toEqual({ maxAgeDays: 7, maxRows: 1_000_000 })
  expect(await retentionOf('[bus]\nretention = { max_rows = 2_000 }')).toEqual({ maxAgeDays: 7, maxRows: 2_000 })
  expect(await retentionOf('[event-log.retention]\nmaxAgeDays = 1')).toEqual({ maxAgeDays: 1, maxRows: 1_000_000 })
  await expect(retentionOf('[bus]\nretention = { maxRows = 5 }')).rejects.toThrow('[event-log] retention.maxRows: has a wrong value; found 5')
})
