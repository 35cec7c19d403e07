import { describe, expect, test } from 'bun:test'
import { authMethods, definePlugin, defineService, guard, type KernelStats, open, requestLimits, rpc, type SlotRef, statSources, t } from 'portico'
import { readStats } from 'portico/plugins/metrics'
import { startTestGateway } from 'portico/testkit'

const base = { version: '1.0.0', api: 1, summary: 'A test plugin' }
const clock = defineService<{ tick(): number }>('ticks')

describe('plugins live', () => {
  test('services reach those who require them, and everything is undone in reverse order', async () => {
    const steps: string[] = []
    const giver = definePlugin({
      ...base,
      id: 'giver',
      provides: { clock },
      setup(ctx) {
        ctx.defer(() => void steps.push('giver first'))
        ctx.defer(() => void steps.push('giver second'))
        return { services: { clock: { tick: () => 42 } }, ready: () => void steps.push('giver ready') }
      },
    })
    const taker = definePlugin({
      ...base,
      id: 'taker',
      requires: { clock },
      paths: ['/taker'],
      setup(ctx) {
        ctx.defer(() => void steps.push('taker'))
        return { routes: [guard(rpc, (app) => app.get('/taker', () => ({ tick: ctx.services.clock.tick() })))] }
      },
    })
    const gateway = await startTestGateway({ only: [taker, giver] })
    expect((await gateway.json('/taker')).body).toEqual({ tick: 42 })
    expect((await gateway.json('/taker', { as: '' })).status).toBe(401)
    await gateway.stop()
    expect(steps).toEqual(['giver ready', 'taker', 'giver second', 'giver first'])
  })

  test('a failing setup is unwound, its dependents are blocked by name, its roots answer 503, the others never notice', async () => {
    const undone: string[] = []
    const broken = definePlugin({
      ...base,
      id: 'broken',
      provides: { clock },
      paths: ['/broken'],
      setup(ctx): { services: { clock: { tick(): number } } } {
        ctx.defer(() => void undone.push('broken'))
        throw new Error('no luck today')
      },
    })
    const dependent = definePlugin({ ...base, id: 'dependent', requires: { clock }, paths: ['/dependent'], setup: () => {} })
    const healthy = definePlugin({ ...base, id: 'healthy', paths: ['/healthy'], setup: () => ({ routes: [open((app) => app.get('/healthy', () => 'fine'))] }) })
    await using gateway = await startTestGateway({ only: [broken, dependent, healthy] })
    expect(undone).toEqual(['broken'])
    expect(gateway.gateway.kernel.plugins().map(({ id, state }) => `${id} ${state}`)).toEqual([
      'data-folder ready',
      'pglite ready',
      'database ready',
      'event-log ready',
      ...['sockets', 'tls', 'proxies', 'door', 'auth'].map((id) => `${id} ready`),
      'broken failed',
      'dependent blocked',
      'healthy ready',
    ])
    const refused = await gateway.json('/broken/anything')
    expect(refused.status).toBe(503)
    expect(refused.body.error).toMatchObject({ code: 'plugin_unavailable', message: expect.stringContaining('broken') })
    expect((await gateway.json('/dependent')).body.error.message).toContain('broken')
    expect(await (await gateway.fetch('/healthy')).text()).toBe('fine')
  })

  test('a setup that never settles fails at its deadline', async () => {
    const hanging = definePlugin({ ...base, id: 'hanging', setupDeadline: 50, paths: ['/hanging'], setup: () => new Promise<void>(() => {}) })
    await using gateway = await startTestGateway({ only: [hanging] })
    expect(gateway.gateway.kernel.plugins()).toContainEqual(
      expect.objectContaining({ id: 'hanging', state: 'failed', reason: expect.stringContaining('50 ms') }),
    )
  })

  test.each([
    ['an auth method', authMethods],
    ['a limit', requestLimits],
  ])('a plugin that adds %s fails closed', async (_, slot) => {
    const broken = definePlugin({
      ...base,
      id: 'auth-broken',
      adds: [slot as SlotRef],
      setup() {
        throw new Error('keys unreadable')
      },
    })
    expect(startTestGateway({ only: [broken] })).rejects.toThrow(/auth-broken.*keys unreadable/s)
  })

  test('a throwing disposer is reported with its plugin, and the next one runs', async () => {
    let ran = false
    const plugin = definePlugin({
      ...base,
      id: 'clumsy',
      setup(ctx) {
        ctx.defer(() => {
          ran = true
        })
        ctx.defer(() => {
          throw new Error('dropped')
        })
      },
    })
    const gateway = await startTestGateway({ only: [plugin] })
    await gateway.stop()
    expect(ran).toBe(true)
    expect(gateway.log).toContainEqual(expect.objectContaining({ plugin: 'clumsy', level: 'error', message: expect.stringContaining('disposer') }))
  })

  test('numbers that plugins add stand beside the kernel’s; a source that throws is reported and hides no other', async () => {
    const counting = (id: string, source: () => KernelStats) => definePlugin({ ...base, id, adds: [statSources], setup: (ctx) => ctx.add(statSources, source) })
    const pens = counting('pens', () => ({ gauges: { 'pens.left': 3 }, counters: { 'pens.used': 4 } }))
    const liar = counting('liar', () => {
      throw new Error('lost count')
    })
    await using gateway = await startTestGateway({ only: [liar, pens] })
    const { gauges, counters } = readStats(gateway.gateway.kernel)
    expect([gauges['pens.left'], gauges.requests_in_flight, counters['pens.used']]).toEqual([3, 0, 4])
    expect(gateway.log).toContainEqual(expect.objectContaining({ plugin: 'liar', level: 'error', message: expect.stringContaining('lost count') }))
  })

  test('config reaches setup with its defaults', async () => {
    let seen: unknown
    const plugin = definePlugin({
      ...base,
      id: 'configured',
      config: t.Object({ retries: t.Integer({ default: 3 }), name: t.Optional(t.String()) }),
      setup(ctx) {
        seen = ctx.config
      },
    })
    await using _gateway = await startTestGateway({ only: [plugin], config: '[configured]\nname = "x"\n' })
    expect(seen).toEqual({ retries: 3, name: 'x' })
  })
})
