import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { Principal } from 'portico'
import type { ScriptedCall } from 'portico/plugins/models/testing'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { ann, type RunsGateway, startRunsGateway } from '../../test/fixtures/runs.ts'
import { databases } from '../../test/fixtures/stores.ts'

const principal = (id: string): Principal => ({ ...ann, id })

describe.each(databases)('the queue on %s', (database) => {
  let postgres: TestPostgres | undefined
  let house: RunsGateway
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
  }, 60_000)
  afterAll(() => postgres?.stop())

  /** With its executor paused by a concurrency of 0, until a second gateway, or a changed config, works. */
  const start = async (config: string, more: object = {}) => {
    house = await startRunsGateway({ databaseUrl: await postgres?.newDatabase(), config, ...more })
    return house
  }
  const startedOrder = async (ids: readonly string[]) => {
    const runs = await Promise.all(ids.map((id) => house.runs.get(id, { ...ann, scopes: ['admin'] })))
    return runs.sort((a, b) => (a.startedAt as Date).getTime() - (b.startedAt as Date).getTime())
  }

  test('500 runs of 10 principals: each gets its share, none starves, order within a session is kept', async () => {
    await using house = disposable(await start('concurrency = 2\nmaxQueued = 1000', { provider: { otherwise: { text: 'ok' } } }))
    // One after the other comes with all of its work: who comes last would wait for 450 runs of others.
    const all: { id: string; who: string }[] = []
    for (let p = 0; p < 10; p++) {
      const who = `p${p}`
      const made = Array.from({ length: 50 }, (_, n) =>
        house.runs.submit({ principal: principal(who), input: { text: `${n}` }, sessionKey: `s${n % 5}`, startAt: new Date(Date.now() + 100) }),
      )
      for (const run of await Promise.all(made)) all.push({ id: run.id, who })
    }
    const admin: Principal = { ...ann, scopes: ['admin'] }
    for (const { id } of all.toReversed()) await house.end(id, admin)
    const order = await startedOrder(all.map(({ id }) => id))
    expect(order.every(({ state }) => state === 'completed')).toBe(true)
    // Whoever had work waiting had his turn in each round of ten, give or take the two at work.
    const last = order.filter(({ principal: { id } }) => id === 'p9')
    const places = last.map((run) => order.indexOf(run))
    const gaps = places.slice(1, 20).map((place, index) => place - (places[index] as number))
    expect(Math.max(...gaps)).toBeLessThanOrEqual(14)
    for (const session of new Set(order.map(({ sessionId }) => sessionId))) {
      const created = order.filter(({ sessionId }) => sessionId === session).map(({ createdAt }) => createdAt.getTime())
      expect(created).toEqual([...created].sort((a, b) => a - b))
    }
  }, 120_000)

  test('the highest priority first; not before its time; what it depends on first', async () => {
    await using house = disposable(
      await start('concurrency = 1', {
        provider: { script: ({ body }: ScriptedCall) => ({ text: 'ok', delayMs: JSON.stringify(body).includes('first') ? 150 : 0 }) },
      }),
    )
    const first = await house.submit('first')
    await house.gateway.events.waitFor('run:started', ({ subject }) => subject === first.id)
    const low = await house.submit('low', { priority: -5 })
    const needs = await house.submit('needs low', { priority: 50, dependsOn: [low.id] })
    const usual = await house.submit('usual')
    const high = await house.submit('high', { priority: 10 })
    const later = await house.submit('later', { priority: 100, startAt: new Date(Date.now() + 3_000) })
    for (const { id } of [later, needs, usual]) await house.end(id)
    const order = await startedOrder([first, low, needs, usual, high, later].map(({ id }) => id))
    expect(order.map(({ input }) => input.text)).toEqual(['first', 'high', 'usual', 'low', 'needs low', 'later'])
  }, 30_000)

  test('a run whose dependency did not complete fails, by name', async () => {
    await using house = disposable(await start('concurrency = 1'))
    const base = await house.submit('base', { startAt: new Date(Date.now() + 60_000) })
    const next = await house.submit('next', { dependsOn: [base.id] })
    const after = await house.submit('after', { dependsOn: [next.id] })
    await house.runs.cancel(base.id, ann)
    for (const { id } of [next, after]) expect(await house.end(id)).toMatchObject({ state: 'failed', error: { code: 'dependency_failed' } })
    await expect(house.submit('x', { dependsOn: ['run_nothing'] })).rejects.toMatchObject({ code: 'not_found' })
  })

  test('no more runs of an agent at once than its cap', async () => {
    let [atOnce, most] = [0, 0]
    const budget = {
      async reserve() {
        most = Math.max(most, ++atOnce)
        const end = async () => void atOnce--
        return { settle: end, release: end }
      },
    }
    const agents = { find: (agent: string, _: unknown, preset: object) => (agent === 'capped' ? ({ ...preset, agent, maxConcurrent: 2 } as never) : undefined) }
    await using house = disposable(await start('concurrency = 8', { agents, budget, provider: { otherwise: { text: 'ok', delayMs: 20 } } }))
    const made = await Promise.all(Array.from({ length: 12 }, (_, n) => house.submit(`${n}`, { agent: 'capped' })))
    for (const { id } of made) await house.end(id)
    expect(most).toBe(2)
  }, 30_000)

  test('the same Idempotency-Key 50 times at once is one run, with 50 equal answers; another body is a 409', async () => {
    await using house = disposable(await start('concurrency = 1'))
    const post = (message: string) =>
      house.gateway.json('/v1/runs', { method: 'POST', headers: { 'idempotency-key': 'once' }, body: { message, session_key: 'idempotent' } })
    const answers = await Promise.all(Array.from({ length: 50 }, () => post('hello')))
    expect([...new Set(answers.map(({ status, body }) => JSON.stringify([status, body])))]).toEqual([expect.any(String)])
    expect(answers[0]?.status).toBe(202)
    expect((await house.gateway.json('/v1/runs?session_key=idempotent')).body.data).toHaveLength(1)
    const other = await post('something else')
    expect([other.status, other.body.error.code]).toEqual([409, 'conflict'])
  }, 30_000)

  test('more than maxQueued wait for nobody', async () => {
    await using house = disposable(await start('concurrency = 0\nmaxQueued = 3'))
    for (let n = 0; n < 3; n++) await house.submit(`${n}`)
    await expect(house.submit('one more')).rejects.toMatchObject({ code: 'rate_limit_exceeded', retryAfter: expect.any(Number) })
    expect((await house.runs.submit({ principal: principal('bob'), input: { text: 'of another' } })).state).toBe('queued')
  })

  test('messages reach a session at work by their mode', async () => {
    await using house = disposable(
      await start('concurrency = 1', {
        provider: {
          script: ({ body }: ScriptedCall) => ({ text: `heard ${(body as any).messages.filter((m: any) => m.role === 'user').length}`, delayMs: 100 }),
        },
      }),
    )
    const send = (text: string, mode: 'steer' | 'collect' | 'followup' | 'interrupt') =>
      house.runs.send({ principal: ann, input: { text }, sessionKey: 'modes' }, mode)
    const run = await send('one', 'followup')
    await house.gateway.events.waitFor('run:started', ({ subject }) => subject === run.id)
    expect((await send('and two', 'steer')).id).toBe(run.id)
    const waits = await send('three', 'followup')
    expect((await send('and four', 'collect')).id).toBe(waits.id)
    // The message came while the model was at it: it is asked once more, with it.
    expect(await house.end(run.id)).toMatchObject({ state: 'completed', result: 'heard 2' })
    expect(await house.end(waits.id)).toMatchObject({ state: 'completed', result: 'heard 4' })
    const long = await send('five', 'followup')
    await house.gateway.events.waitFor('run:started', ({ subject }) => subject === long.id)
    const instead = await send('six', 'interrupt')
    expect((await house.runs.get(long.id, ann)).state).toBe('cancelled')
    expect((await house.end(instead.id)).state).toBe('completed')
  }, 30_000)
})

function disposable(house: RunsGateway): RunsGateway & AsyncDisposable {
  return Object.assign(house, { [Symbol.asyncDispose]: () => house.stop() })
}
