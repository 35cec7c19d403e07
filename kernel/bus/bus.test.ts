import { describe, expect, test } from 'bun:test'
import { delta, noted, root, StreamReader } from '../../test/fixtures/bus.ts'
import { useBuses, useLogStores } from '../../test/fixtures/log-stores.ts'
import { until } from '../../test/fixtures/until.ts'
import type { GatewayEvent } from '../contract/event.ts'
import { defineEvent, rpc } from '../contract/refs.ts'
import { setContext } from '../contract/request.ts'
import { t } from '../contract/schema.ts'

const stores = useLogStores()

describe.each(['postgres', 'pglite'] as const)('on %s', (kind) => {
  const { store, start, write } = useBuses(stores, kind)

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
    expect((await store().pool.query('select from event_log_events')).rowCount).toBe(0)
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

  test('a listener that throws, rejects or does not settle is reported under its owner, and neither publisher nor others feel it', async () => {
    await using node = await start({ patienceMs: 50 })
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
    await until(() => node.errors.length === 3)
    const said = node.errors.map(({ owner, error }) => `${owner}: ${(error as Error).message}`)
    expect(said.sort()).toEqual(['bad: sync', 'slow: it did not settle within 50 ms', 'worse: async'])
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
})
