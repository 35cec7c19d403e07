import { describe, expect, test } from 'bun:test'
import { readFile } from 'node:fs/promises'
import { type DurableLog, defineEvent, definePlugin, defineService, type EventDelivery, type GatewayEvent, rpc, t } from 'portico'
import { type EventLog, eventLog } from 'portico/plugins/event-log'
import { readStats } from 'portico/plugins/metrics'
import { startTestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'
import { planGateway } from './planning.ts'

const base = { version: '1.0.0', api: 1, summary: 'A test plugin' }
const said = defineEvent('talker:said', t.Object({ n: t.Integer() }), { scope: rpc, durable: true })
const shelf = defineService<{ put(event: GatewayEvent): bigint }>('shelf')

/** A log in memory, and the order in which it was driven. */
function createMemoryLog(steps: string[]) {
  const records: GatewayEvent[] = []
  const put = (event: GatewayEvent) => BigInt(records.push(event))
  const provide = (put: (event: GatewayEvent) => bigint): EventLog => {
    let deliver: Parameters<DurableLog['start']>[0] = () => {}
    return {
      async start(given) {
        steps.push('log starts')
        deliver = given
      },
      async write(event) {
        const id = put(event)
        const { type, principal, data } = event
        deliver([{ type, principal, id, json: JSON.stringify(data), event: { ...event, id: `0-${id}` }, forms: {} } satisfies EventDelivery])
      },
      subscribe: () => () => {},
      head: () => BigInt(records.length),
      lastId: async () => BigInt(records.length),
      read: () => ({ events: [], reached: BigInt(records.length), trimmed: 0n }),
      newest: async () => [],
      batch: () => {
        throw new Error('There is no SQL here')
      },
      async stop() {
        steps.push('log stops')
      },
    }
  }
  const shelves = definePlugin({
    ...base,
    id: 'shelves',
    provides: { shelf },
    setup(ctx) {
      steps.push('shelves')
      ctx.defer(() => void steps.push('shelves undone'))
      return { services: { shelf: { put } } }
    },
  })
  const memory = definePlugin({
    ...base,
    id: 'memory-log',
    requires: { shelf },
    provides: { eventLog },
    setup(ctx) {
      steps.push('log')
      ctx.defer(() => void steps.push('log undone'))
      return { services: { eventLog: provide(ctx.services.shelf.put) } }
    },
  })
  return { plugins: [shelves, memory], records }
}

/** Publishes while it is set up, and while it is undone. */
const talker = (steps: string[]) =>
  definePlugin({
    ...base,
    id: 'talker',
    events: [said],
    async setup(ctx) {
      steps.push('talker')
      ctx.on(said, ({ data }) => void steps.push(`heard ${data.n}`))
      ctx.defer(async () => {
        steps.push('talker undone')
        await ctx.publish(said, { n: 2 })
      })
      await ctx.publish(said, { n: 1 })
    },
  })

describe('the event log', () => {
  test('may be provided by another plugin: it runs before the others are set up, after what it needs itself, and until all are undone', async () => {
    const steps: string[] = []
    const { plugins, records } = createMemoryLog(steps)
    const gateway = await startTestGateway({ only: [talker(steps), ...plugins] })
    expect(gateway.gateway.kernel.plugins().map(({ id }) => id)).toEqual([
      'data-folder',
      'pglite',
      'database',
      'shelves',
      'memory-log',
      'sockets',
      'tls',
      'proxies',
      'door',
      'auth',
      'talker',
    ])
    await gateway.stop()
    expect(steps).toEqual(['shelves', 'log', 'log starts', 'talker', 'heard 1', 'talker undone', 'heard 2', 'log undone', 'shelves undone', 'log stops'])
    const plugin = ({ type, data }: GatewayEvent<string, any>) => `${type} ${data.plugin ?? data.n}`
    expect(records.map(plugin)).toEqual([
      ...[
        'talker:said 1',
        'plugin:ready data-folder',
        'plugin:ready pglite',
        'plugin:ready database',
        'plugin:ready shelves',
        'plugin:ready memory-log',
        ...['sockets', 'tls', 'proxies', 'door', 'auth', 'talker'].map((id) => `plugin:ready ${id}`),
      ],
      'talker:said 2',
      ...['talker', 'auth', 'door', 'proxies', 'tls', 'sockets', 'memory-log', 'shelves'].map((id) => `plugin:stopped ${id}`),
    ])
  })

  test('is added to plugins that are named one by one, and keeps what they publish', async () => {
    const steps: string[] = []
    await using gateway = await startTestGateway({ only: [talker(steps)] })
    expect(gateway.gateway.kernel.plugins().map(({ id, state }) => `${id} ${state}`)).toEqual([
      ...[
        'data-folder ready',
        'pglite ready',
        'database ready',
        'event-log ready',
        'sockets ready',
        'tls ready',
        'proxies ready',
        'door ready',
        'auth ready',
        'talker ready',
      ],
    ])
    await until(() => readStats(gateway.gateway.kernel).counters['bus.appended'] === 11)
    expect(steps).toEqual(['talker', 'heard 1'])
  })

  test('that cannot be set up or started keeps the gateway from starting, whatever the config says; nothing is left of the others', async () => {
    const steps: string[] = []
    const broken = (start: () => Promise<void>) =>
      definePlugin({ ...base, id: 'broken-log', provides: { eventLog }, setup: () => ({ services: { eventLog: { start, stop: async () => {} } as never } }) })
    const away = broken(() => Promise.reject(new Error('the disk is full')))
    const config = '[broken-log]\nonFailure = "continue"\n'
    await expect(startTestGateway({ only: [away, talker(steps)], config })).rejects.toThrow(/without the plugin "broken-log" \(setup: the disk is full\)/)
    const slow = broken(() => readFile(import.meta.path).then(() => Promise.reject(new Error('the disk is full'))))
    await expect(startTestGateway({ only: [slow, talker(steps)], config })).rejects.toThrow(/without the plugin "broken-log" \(setup: the disk is full\)/)
    expect(steps).toEqual(['talker', 'talker undone'])
  })

  test.each([
    ['event-log', 'event-log'],
    ['door', 'door'],
    ['auth', 'gatekeeper'],
  ])('a gateway without %s is refused by its plan, which names the service', async (plugin, service) => {
    const { plan } = await planGateway({ env: {}, cwd: '/', configText: `[${plugin}]\nenabled = false\n` })
    expect(plan.problems).toContainEqual(
      expect.objectContaining({ where: service, what: 'no loaded plugin provides this service, and no gateway runs without it' }),
    )
  })

  test('has no durable events for what it needs itself', async () => {
    const { plugins } = createMemoryLog([])
    const early = definePlugin({
      ...base,
      id: 'shelves',
      provides: { shelf },
      events: [said],
      async setup(ctx) {
        expect(() => ctx.on(said, () => {}, { cursor: 'early' })).toThrow('The event log does not run yet')
        await expect(ctx.publish(said, { n: 1 })).rejects.toMatchObject({ code: 'unavailable' })
        return { services: { shelf: { put: () => 1n } } }
      },
    })
    await using gateway = await startTestGateway({ only: [early, plugins[1] as never] })
    expect(gateway.gateway.kernel.plugins().map(({ state }) => state)).toEqual(Array.from({ length: 10 }, () => 'ready'))
  })
})
