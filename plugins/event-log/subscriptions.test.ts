import { beforeEach, describe, expect, test } from 'bun:test'
import { createFakeClock } from 'portico/testkit'
import { audited, emptyBus, noted, startTestBus } from '../../test/fixtures/bus.ts'
import { useBuses, useLogStores } from '../../test/fixtures/log-stores.ts'
import { until } from '../../test/fixtures/until.ts'

const stores = useLogStores()
const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n)

describe.each(['postgres', 'pglite'] as const)('on %s', (kind) => {
  const { store, start, write } = useBuses(stores, kind)
  const rows = async (text: string) => (await store().pool.query(text)).rows

  test('handles each event in order, one at a time, and continues at its cursor after a restart', async () => {
    const handled: number[] = []
    let atOnce = 0
    const handle = async ({ data }: { data: { n: number } }) => {
      expect(++atOnce).toBe(1)
      if (data.n % 50 === 0) await Bun.sleep(1)
      atOnce--
      handled.push(data.n)
    }
    const first = await start()
    first.bus.on('pager', noted, handle, { cursor: 'pages' })
    await write(first.bus, 300)
    await until(() => handled.length === 300)
    await first.stop()
    const between = await start()
    await write(between.bus, 100, 300)
    await between.stop()
    await using second = await start()
    second.bus.on('pager', noted, handle, { cursor: 'pages' })
    await write(second.bus, 100, 400)
    await until(() => handled.length >= 500)
    expect(handled).toEqual(numbers(500))
    expect(second.errors).toEqual([])
  })

  test('starts the first time from now, or from the oldest event', async () => {
    await using node = await start()
    await write(node.bus, 5)
    await until(() => node.bus.stats().counters['bus.appended'] === 5)
    const [fromNow, fromOldest]: number[][] = [[], []]
    node.bus.on('pager', noted, ({ data }) => fromNow!.push(data.n), { cursor: 'now' })
    node.bus.on('pager', noted, ({ data }) => fromOldest!.push(data.n), { cursor: 'oldest', from: 'oldest' })
    await write(node.bus, 5, 5)
    await until(() => fromOldest!.length === 10 && fromNow!.length === 5)
    expect(fromNow).toEqual(numbers(5, 5))
    expect(fromOldest).toEqual(numbers(10))
  })

  test('no transaction is open while a handler runs: it may use the database, and ten of them need no ten connections', async () => {
    await using node = await start()
    let handled = 0
    for (const name of numbers(10))
      node.bus.on(
        'pager',
        noted,
        async () => {
          await store().db.transaction(async (tx) => void (await tx.execute('select 1')))
          handled++
        },
        { cursor: `c${name}` },
      )
    await write(node.bus, 20)
    await until(() => handled === 200)
  })

  test('saves its place while it goes on, and that of a subscription whose type does not come', async () => {
    await using node = await start({ periods: { save: 20, lease: 400 } })
    let handled = 0
    node.bus.on('pager', noted, () => void handled++, { cursor: 'busy' })
    node.bus.on('pager', audited, () => {}, { cursor: 'idle' })
    await write(node.bus, 100)
    await until(() => handled === 100)
    const last = (await rows('select max(id) as id from event_log_events'))[0].id
    await until(async () => (await rows(`select from event_log_cursors where position = ${last}`)).length === 2)
  })

  test('a handler that never settles is reported by name at its deadline, and the event is tried again', async () => {
    const clock = createFakeClock()
    await using node = await start({ clock })
    let tried = 0
    const handled: number[] = []
    const handle = ({ data }: { data: { n: number } }) => {
      if (data.n === 1 && ++tried === 1) return new Promise<void>(() => {})
      handled.push(data.n)
    }
    node.bus.on('pager', noted, handle, { cursor: 'pages', deadline: 50 })
    await write(node.bus, 3)
    await until(() => clock.sleepers === 1)
    expect(node.errors.map(({ owner, error }) => `${owner}: ${(error as Error).message}`)).toEqual([
      expect.stringMatching(/^pager: the event \d+-\d+ was not handled within 50 ms; it is tried again$/),
    ])
    await clock.advance(1_000)
    await until(() => handled.length === 3)
    expect(handled).toEqual([0, 1, 2])
  })

  test('retries a failing event from 1 s to 60 s, ten times, then sets it aside, reports it and goes on', async () => {
    const clock = createFakeClock()
    await using node = await start({ clock })
    const tried: number[] = []
    const handled: number[] = []
    node.bus.on(
      'pager',
      noted,
      ({ data }) => {
        if (data.n !== 1) return void handled.push(data.n)
        tried.push(clock.now())
        throw new Error('poison')
      },
      { cursor: 'pages' },
    )
    await write(node.bus, 3)
    for (const wait of [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]) {
      await until(() => clock.sleepers === 1)
      await clock.advance(wait * 1_000 - 1)
      const before = tried.length
      await clock.advance(1)
      await until(() => tried.length === before + 1)
    }
    await until(() => handled.length === 2)
    expect(handled).toEqual([0, 2])
    expect(tried).toHaveLength(11)
    expect(node.errors.map(({ owner, what, error }) => `${owner}: ${what}: ${(error as Error).message}`)).toEqual([
      expect.stringMatching(/^pager: durable subscription "pages" to "note:written": The event \d+-\d+ was set aside after 11 attempts: Error: poison$/),
    ])
    expect(await rows('select owner, name, type, data, attempts, error from event_log_dead_letters')).toEqual([
      { owner: 'pager', name: 'pages', type: 'note:written', data: '{"n":1}', attempts: 11, error: 'Error: poison' },
    ])
    expect(node.bus.stats().counters).toMatchObject({ 'bus.subscriptions.retried': 10, 'bus.subscriptions.dead': 1 })
  })

  test('counts attempts on across restarts until an event is set aside', async () => {
    const clock = createFakeClock()
    let tried = 0
    const handled: number[] = []
    const handle = ({ data }: { data: { n: number } }) => {
      if (data.n !== 1) return void handled.push(data.n)
      tried++
      throw new Error('poison')
    }
    for (const attempts of [5, 10, 11]) {
      await using node = await start({ clock })
      node.bus.on('pager', noted, handle, { cursor: 'pages' })
      if (attempts === 5) await write(node.bus, 3)
      while (tried < attempts) {
        if (clock.sleepers === 1) await clock.advance(60_000)
        else await Bun.sleep(1)
      }
      if (attempts < 11) await until(() => clock.sleepers === 1)
      else await until(() => handled.length === 2)
    }
    expect(handled).toEqual([0, 2])
    expect(await rows('select attempts, error from event_log_dead_letters')).toEqual([{ attempts: 11, error: 'Error: poison' }])
  })

  test('after the undo no event begins, the running one counts, and a successor in the same process goes on there', async () => {
    await using node = await start()
    const handled: string[] = []
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>()
    const { promise: leave, resolve: letLeave } = Promise.withResolvers<void>()
    const undo = node.bus.on(
      'pager',
      noted,
      async ({ data }) => {
        handled.push(`old ${data.n}`)
        enter()
        await leave
      },
      { cursor: 'pages' },
    )
    await write(node.bus, 3)
    await entered
    node.bus.on('pager', noted, ({ data }) => void handled.push(`new ${data.n}`), { cursor: 'pages' })
    undo()
    letLeave()
    await until(() => handled.length === 3)
    expect(handled).toEqual(['old 0', 'new 1', 'new 2'])
  })

  test('is told, not skipped in silence, when its cursor fell out of the log', async () => {
    const first = await start()
    const handled: number[] = []
    first.bus.on('pager', noted, ({ data }) => void handled.push(data.n), { cursor: 'pages' })
    await write(first.bus, 1)
    await until(() => handled.length === 1)
    await first.stop()
    const between = await start({ retention: { maxAgeDays: 7, maxRows: 2 }, periods: { trim: 20 } })
    await write(between.bus, 10, 1)
    await until(async () => (await rows('select from event_log_events')).length === 2)
    await between.stop()
    await store().pool.query('update event_log_cursors set position = 5')
    await using second = await start()
    // Its tail reaches back to the oldest event: the gap is before that.
    second.bus.on('pager', noted, ({ data }) => void handled.push(data.n), { cursor: 'pages' })
    await until(() => handled.length === 3)
    expect(handled).toEqual([0, 9, 10])
    expect(second.errors).toMatchObject([{ owner: 'pager', what: 'durable subscription "pages" to "note:written"' }])
    expect(String(second.errors[0]?.error)).toContain('It may have missed events: events between 0-5 and')
  })
})

describe('two processes on one PostgreSQL', () => {
  const store = () => stores.postgres
  beforeEach(() => emptyBus(store()))

  test('append in one rising order, and each delivers everything once, in that order', async () => {
    await using one = await startTestBus({ store: store() })
    await using two = await startTestBus({ store: store() })
    const heard: string[][] = [[], []]
    one.bus.subscribeAll(({ event: { id } }) => heard[0]!.push(id as string))
    two.bus.subscribeAll(({ event: { id } }) => heard[1]!.push(id as string))
    for (let round = 0; round < 20; round++) await Promise.all(numbers(25).flatMap((n) => [one, two].map(({ bus }) => bus.publish('notes', noted, { n }))))
    await until(() => heard.every(({ length }) => length >= 1_000))
    expect(heard[0]).toEqual(heard[1]!)
    const ids = heard[0]!.map((id) => id.split('-').map(Number)) as [number, number][]
    for (let at = 1; at < ids.length; at++)
      expect(ids[at]![0] > ids[at - 1]![0] || (ids[at]![0] === ids[at - 1]![0] && ids[at]![1] > ids[at - 1]![1])).toBe(true)
    expect(new Set(heard[0]).size).toBe(1_000)
  })

  test('an append waits for the one before it to commit, and sees its ids', async () => {
    const [first, second] = [await store().pool.connect(), await store().pool.connect()]
    const append = 'select last, id from event_log_append(10, 1000)'
    const insert = `insert into event_log_outbox (uid, type, source, time, data) values (gen_random_uuid(), 'note:written', 'notes', now(), '{"n":1}')`
    await first.query(insert)
    await first.query('begin')
    const before = (await first.query(append)).rows[0]
    await second.query(insert)
    let done = false
    const waiting = second.query(append).finally(() => {
      done = true
    })
    await Bun.sleep(30)
    expect(done).toBe(false)
    await first.query('commit')
    const after = (await waiting).rows[0]
    expect(after.last).toBe(before.id)
    expect(BigInt(after.id)).toBeGreaterThan(BigInt(before.id))
    for (const client of [first, second]) client.release()
  })

  test('each event is handled on one of them', async () => {
    await using one = await startTestBus({ store: store() })
    await using two = await startTestBus({ store: store() })
    const handled: number[] = []
    for (const { bus } of [one, two]) bus.on('pager', noted, ({ data }) => void handled.push(data.n), { cursor: 'pages' })
    await Promise.all(numbers(100).map((n) => two.bus.publish('notes', noted, { n })))
    await until(() => handled.length >= 100)
    await Bun.sleep(50)
    expect(handled).toEqual(numbers(100))
  })

  test('a process whose lease was taken does not count what it handles any more', async () => {
    await using node = await startTestBus({ store: store(), periods: { save: 10, lease: 200 } })
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>()
    const { promise: leave, resolve: letLeave } = Promise.withResolvers<void>()
    const handled: number[] = []
    node.bus.on(
      'pager',
      noted,
      async ({ data }) => {
        handled.push(data.n)
        enter()
        await leave
      },
      { cursor: 'pages' },
    )
    await node.bus.publish('notes', noted, { n: 1 })
    await entered
    // Another took it over, handled nothing yet, and holds on.
    await store().pool.query(`update event_log_cursors set holder = gen_random_uuid(), epoch = epoch + 1, held_until = now() + interval '400 ms'`)
    await Bun.sleep(100)
    letLeave()
    const { position } = (await store().pool.query('select position from event_log_cursors')).rows[0]
    expect(position).toBe('0')
    // It died too: the event comes again.
    await until(() => handled.length === 2)
    expect(handled).toEqual([1, 1])
  })

  test('after the listening connection is cut, events of the other process still arrive, none missed', async () => {
    await using one = await startTestBus({ store: store(), periods: { poll: 60_000 } })
    await using two = await startTestBus({ store: store(), periods: { poll: 60_000 } })
    const heard: number[] = []
    two.bus.on('watcher', noted, ({ data }) => heard.push(data.n))
    await stores.server.admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' or query = 'select 1'`)
    await Promise.all(numbers(50).map((n) => one.bus.publish('notes', noted, { n })))
    await until(() => heard.length >= 50)
    expect(heard).toEqual(numbers(50))
  })

  test('when every connection is cut under load, what was acknowledged is in the log once and handled in order, without a restart', async () => {
    await using node = await startTestBus({ store: store(), periods: { lease: 1_000, poll: 100 } })
    const handled: number[] = []
    node.bus.on('pager', noted, ({ data }) => void handled.push(data.n), { cursor: 'pages' })
    const acknowledged: number[] = []
    const refused: unknown[] = []
    for (const n of numbers(300)) {
      if (n % 100 === 50)
        await stores.server.admin.query('select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname is not null')
      await node.bus.publish('notes', noted, { n })?.then(
        () => acknowledged.push(n),
        (error) => refused.push(error),
      )
    }
    expect(acknowledged.length).toBeGreaterThan(250)
    for (const error of refused) expect(error).toMatchObject({ code: 'database_unavailable' })
    await until(() => handled.includes(299))
    const logged = (await store().pool.query(`select data::json->>'n' as n from event_log_events order by id`)).rows.map(({ n }) => Number(n))
    expect(logged.filter((n) => acknowledged.includes(n))).toEqual(acknowledged)
    expect([...new Set(handled)]).toEqual(logged)
  })

  test('without any notification the slow look finds what another process committed and did not append', async () => {
    await using one = await startTestBus({ store: store(), periods: { poll: 30 } })
    const heard: number[] = []
    one.bus.on('watcher', noted, ({ data }) => heard.push(data.n))
    await store().pool.query(
      `insert into event_log_outbox (uid, type, source, time, data) values (gen_random_uuid(), 'note:written', 'notes', now(), '{"n":5}')`,
    )
    await until(() => heard.length === 1)
  })
})
