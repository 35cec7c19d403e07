import { describe, expect, test } from 'bun:test'
import { definePlugin, defineSlot, guard, rpc, secret, t } from 'portico'
import { startTestGateway } from 'portico/testkit'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const base = { version: '1.0.0', api: 1, summary: 'A test plugin' }
const horns = defineSlot<{ blow(): void }>('horns')

describe('what breaks its contract', () => {
  test('is logged and published with its plugin, also from inside a transaction, and at most once per cause in ten seconds', async () => {
    const owner = definePlugin({
      ...base,
      id: 'owner',
      slots: [horns],
      paths: ['/horns'],
      setup: (ctx) => ({
        routes: [
          guard(rpc, (app) =>
            app.post('/horns', () =>
              ctx.db.transaction(async () => {
                for (const horn of ctx.items(horns)) horn.blow()
                return 'silence'
              }),
            ),
          ),
        ],
      }),
    })
    const hoarse = definePlugin({
      ...base,
      id: 'hoarse',
      adds: [horns],
      setup(ctx) {
        ctx.add(horns, {
          blow() {
            throw new Error('no breath')
          },
        })
      },
    })
    await using gateway = await startTestGateway({ only: [owner, hoarse] })
    const answer = await gateway.json('/horns', { method: 'POST' })
    expect(answer.status).toBe(500)
    await gateway.json('/horns', { method: 'POST' })
    const event = await gateway.events.waitFor('system:error', ({ data }) => (data as { plugin: string }).plugin === 'hoarse')
    expect(event.data).toEqual({ plugin: 'hoarse', what: 'horns.blow', message: 'no breath' })
    expect(gateway.log).toContainEqual(expect.objectContaining({ plugin: 'hoarse', level: 'error' }))
    expect(gateway.events.all.filter(({ type, data }) => type === 'system:error' && (data as { plugin: string }).plugin === 'hoarse')).toHaveLength(1)
  })

  test('shows no secret of the config in events, nor in the reason of a failure', async () => {
    const leaky = definePlugin({
      ...base,
      id: 'leaky',
      config: t.Object({ password: secret() }),
      setup(ctx) {
        throw new Error(`the server refused ${ctx.config.password}`)
      },
    })
    const config = '[leaky]\npassword = "env:LEAKY"\n'
    await using gateway = await startTestGateway({ plugins: [leaky], config, env: { LEAKY: 'canary-secret-value' } })
    const { plugins } = (await gateway.json('/api/plugins')).body
    expect(plugins).toContainEqual(expect.objectContaining({ id: 'leaky', state: 'failed', reason: 'setup: the server refused ***' }))
    const stream = readSse(await gateway.fetch('/api/events?since=1-0&types=plugin:failed,system:error'))
    for (const type of ['plugin:failed', 'system:error']) expect((await stream.waitFor(type)).data).toContain('the server refused ***')
    await stream.close()
  })
})
