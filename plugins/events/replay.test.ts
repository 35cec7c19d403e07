import { describe, expect, test } from 'bun:test'
import { audited, delta, noted, principalOf, root, StreamReader } from '../../test/fixtures/bus.ts'
import { useBuses, useLogStores } from '../../test/fixtures/log-stores.ts'
import { until } from '../../test/fixtures/until.ts'

const stores = useLogStores()

describe.each(['postgres', 'pglite'] as const)('on %s', (kind) => {
  const { store, start, write } = useBuses(stores, kind)

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
    await until(async () => (await store().pool.query('select from event_log_events')).rowCount === 100)
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
