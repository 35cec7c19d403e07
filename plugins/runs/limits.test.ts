import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { GatewayError, t } from 'portico'
import type { BudgetKeeper } from 'portico/plugins/runs'
import { defineTool } from 'portico/plugins/tools'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { ann, noteTool, type RunsGateway, startRunsGateway } from '../../test/fixtures/runs.ts'
import { databases } from '../../test/fixtures/stores.ts'
import { sweepOnce } from './housekeeping.ts'

const noted: string[] = []
const tool = (name: string, run: () => Promise<string> | string, timeout = 60_000) =>
  defineTool({ ...{ name, description: name, input: t.Object({}), risk: 'safe', idempotent: true, timeout, run } })
const budget: { log: string[]; refuse?: GatewayError } = { log: [] }
const keeper: BudgetKeeper = {
  async reserve({ model, inputCharacters }) {
    if (budget.refuse) throw budget.refuse
    budget.log.push(`reserved ${model} ${inputCharacters > 0}`)
    return {
      settle: async ({ inputTokens, outputTokens }) => void budget.log.push(`settled ${inputTokens}+${outputTokens}`),
      release: async () => void budget.log.push('released'),
    }
  },
}

describe.each(databases)('on %s', (database) => {
  let house: RunsGateway
  let postgres: TestPostgres | undefined
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
    house = await startRunsGateway({
      databaseUrl: await postgres?.newDatabase(),
      config: 'maxSteps = 5\nmaxMessages = 4',
      budget: keeper,
      tools: [
        noteTool(noted),
        tool('hang', () => new Promise<string>(() => {})),
        tool('slow', () => new Promise<string>(() => {}), 50),
        tool('huge', () => 'x'.repeat(100_000_000)),
        defineTool({
          ...{ name: 'talks', description: 'talks', input: t.Object({}), risk: 'safe', idempotent: true, timeout: 5_000 },
          async run(_, { progress }) {
            progress('half of it', 0.5)
            progress('nearly')
            return 'all of it'
          },
        }),
        defineTool({
          ...{ name: 'asks_model', description: 'asks', input: t.Object({}), risk: 'safe', idempotent: true, timeout: 5_000 },
          run: async (_, { sample }) => `the model says ${await sample({ prompt: 'What is two and two?', system: 'Be short.' })}`,
        }),
      ],
      agents: {
        find: (agent, _, preset) =>
          ({
            hasty: { ...preset, agent, timeout: 1_000 },
            careful: { ...preset, agent, fallbacks: ['scripted/model'] },
            brief: { ...preset, agent, sessionTtl: 1_000 },
          })[agent],
      },
    })
  }, 60_000)
  afterAll(async () => {
    await house.stop()
    await postgres?.stop()
  })
  beforeEach(() => {
    noted.length = 0
    Object.assign(budget, { log: [], refuse: undefined })
    house.gateway.events.clear()
  })

  const calling = (name: string, times = 1) => ({ toolCalls: Array.from({ length: times }, () => ({ name, arguments: {} })) })
  const result = async (id: string) => (await house.runs.entries(id, ann)).find(({ type }) => type === 'tool_result')?.data as any
  const cancelTimed = async (id: string) => {
    const begun = performance.now()
    expect(await house.runs.cancel(id, ann)).toEqual([id])
    expect(performance.now() - begun).toBeLessThan(200)
    expect((await house.runs.get(id, ann)).state).toBe('cancelled')
  }

  describe('cancelling', () => {
    test('reaches a hanging tool within 200 ms', async () => {
      house.provider.push(calling('hang'))
      const { id } = await house.submit('x')
      await house.gateway.events.waitFor('run:tool_call', ({ subject }) => subject === id)
      await cancelTimed(id)
    })

    test('reaches a hanging model call, and a stream that nobody reads', async () => {
      for (const step of [
        { text: 'x', delayMs: 60_000 },
        { text: 'never ends '.repeat(10_000), frameDelayMs: 5 },
      ]) {
        house.provider.push(step)
        const before = house.provider.calls.length
        const { id } = await house.submit('x')
        await house.gateway.events.waitFor('run:started', ({ subject }) => subject === id)
        while (house.provider.calls.length === before) await Bun.sleep(1)
        const { signal } = house.provider.calls.at(-1) as { signal: AbortSignal }
        await cancelTimed(id)
        expect(signal.aborted).toBe(true)
      }
    })

    test('of a run that is over does nothing; of one that waits, at once', async () => {
      const done = await house.end((await house.submit('x')).id)
      expect(await house.runs.cancel(done.id, ann)).toEqual([])
      const waits = await house.submit('x', { startAt: new Date(Date.now() + 60_000) })
      await cancelTimed(waits.id)
    })

    test('all there is, at the emergency stop', async () => {
      house.provider.push(calling('hang'))
      const ids = [(await house.submit('x')).id, (await house.submit('y', { startAt: new Date(Date.now() + 60_000) })).id]
      await house.gateway.events.waitFor('run:tool_call', ({ subject }) => subject === ids[0])
      const { body } = await house.gateway.json('/v1/estop', { method: 'POST' })
      expect([body.emergency_stop, body.cancelled_count, body.cancelled_ids.sort()]).toEqual([true, 2, ids.sort()])
      const { key } = (await house.gateway.json('/api/keys', { method: 'POST', body: { name: 'user' } })).body
      expect((await house.gateway.json('/v1/estop', { method: 'POST', as: key })).status).toBe(403)
    })
  })

  describe('every excess has a cap, and a name', () => {
    test('a tool that never returns', async () => {
      house.provider.push(calling('slow'))
      const { id } = await house.submit('x')
      expect((await house.end(id)).state).toBe('completed')
      expect(await result(id)).toMatchObject({ isError: true, code: 'deadline_exceeded' })
    })

    test('a tool that answers 100 MB', async () => {
      house.provider.push(calling('huge'))
      const { id } = await house.submit('x')
      expect((await house.end(id)).state).toBe('completed')
      expect(JSON.stringify((await result(id)).parts).length).toBeLessThan(101_000)
    })

    test('a tool there is not, one that is not the agent’s, and arguments that are none', async () => {
      house.provider.push({ toolCalls: [{ name: 'nothing', arguments: {} }] }, { toolCalls: [{ name: 'note', arguments: { txt: 1 } }] })
      const { id } = await house.submit('x')
      expect((await house.end(id)).state).toBe('completed')
      const results = (await house.runs.entries(id, ann)).filter(({ type }) => type === 'tool_result')
      expect(results.map(({ data }) => data.isError)).toEqual([true, true])
      house.provider.push(calling('note'))
      const without = await house.submit('x', { override: { tools: [] } })
      expect((await house.end(without.id)).state).toBe('completed')
      expect(noted).toEqual([])
    })

    test('more than 32 calls in one answer', async () => {
      house.provider.push({ toolCalls: Array.from({ length: 40 }, (_, n) => ({ name: 'note', arguments: { text: `${n}` } })) })
      const { id } = await house.submit('x')
      expect((await house.end(id)).state).toBe('completed')
      expect(noted).toHaveLength(32)
    })

    test('work over its time', async () => {
      house.provider.push(calling('hang'))
      const { id } = await house.submit('x', { agent: 'hasty' })
      expect(await house.end(id)).toMatchObject({ state: 'failed', error: { code: 'deadline_exceeded' } })
    }, 10_000)

    test('children deeper than three', async () => {
      let parent = await house.submit('0', { startAt: new Date(Date.now() + 60_000) })
      for (let depth = 1; depth <= 3; depth++) parent = await house.submit(`${depth}`, { parentId: parent.id, startAt: new Date(Date.now() + 60_000) })
      await expect(house.submit('4', { parentId: parent.id })).rejects.toMatchObject({ code: 'unprocessable' })
    })
  })

  describe('budgets', () => {
    test('are reserved before each call, and settled after it', async () => {
      house.provider.push({ ...calling('note'), usage: { promptTokens: 5, completionTokens: 2 } })
      await house.end((await house.submit('x')).id)
      expect(budget.log).toEqual(['reserved scripted/model true', 'settled 5+2', 'reserved scripted/model true', 'settled 7+3'])
    })

    test('are given back when the call fails', async () => {
      house.provider.push({ error: { status: 500 } })
      expect((await house.end((await house.submit('x')).id)).error?.code).toBe('upstream_error')
      expect(budget.log).toEqual(['reserved scripted/model true', 'released'])
    })

    test('that are used up end the run, with when to come again', async () => {
      budget.refuse = new GatewayError('rate_limit_exceeded', 'The budget of today is used up.', { retryAfter: 60 })
      expect((await house.end((await house.submit('x')).id)).error).toEqual({
        code: 'rate_limit_exceeded',
        message: 'The budget of today is used up.',
        retryAfter: 60,
      })
    })
  })

  test('a fallback takes over before the first word, and not after it', async () => {
    house.provider.push({ error: { status: 503 } }, { text: 'from the second' })
    expect((await house.end((await house.submit('x', { agent: 'careful' })).id)).result).toBe('from the second')
    const half = () => new Response('data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n', { headers: { 'content-type': 'text/event-stream' } })
    house.provider.push({ raw: half }, { text: 'never' })
    expect(await house.end((await house.submit('x', { agent: 'careful' })).id)).toMatchObject({ state: 'failed', result: 'half' })
    expect(house.provider.left).toBe(1)
    await house.end((await house.submit('use it up')).id)
  })

  describe('a tool that talks', () => {
    test('says how far it is: watchers hear it live, and it is no part of the record', async () => {
      house.provider.push(calling('talks'))
      const { id } = await house.submit('x')
      const updates = await house.follow(id)
      const said = updates.flatMap((update) => (update.type === 'progress' ? [[update.message, update.fraction]] : []))
      expect(said).toEqual([
        ['half of it', 0.5],
        ['nearly', undefined],
      ])
      const { data } = await house.gateway.events.waitFor('run:progress', ({ subject }) => subject === id)
      expect(data).toMatchObject({ runId: id, message: 'half of it', fraction: 0.5 })
      expect((await house.runs.entries(id, ann)).map(({ type }) => type)).not.toContain('progress')
    })

    test('asks a model of its own: the answer is the tool’s, the tokens and the budget are the run’s', async () => {
      house.provider.push(calling('asks_model'), { text: 'four', usage: { promptTokens: 20, completionTokens: 1 } }, { text: 'It is four' })
      const run = await house.end((await house.submit('x')).id)
      expect([run.result, (await result(run.id)).parts]).toEqual(['It is four', [{ type: 'text', text: 'the model says four' }]])
      const asked = house.provider.calls.at(-2)?.body as { messages: { role: string; content: string }[]; tools?: unknown }
      expect(asked.messages.map(({ role, content }) => [role, content])).toEqual([
        ['system', 'Be short.'],
        ['user', 'What is two and two?'],
      ])
      expect(asked.tools).toBeUndefined()
      expect(budget.log.filter((line) => line.startsWith('settled'))).toContain('settled 20+1')
      expect(run.usage.inputTokens).toBeGreaterThanOrEqual(20)
      expect(run.usage.outputTokens).toBeGreaterThanOrEqual(1)
    })
  })

  describe('what is kept', () => {
    test('a deleted run is gone with all it left; others do not see it', async () => {
      const run = await house.end((await house.submit('x', { sessionKey: 'gone' })).id)
      await expect(house.runs.delete(run.id, { ...ann, id: 'bob' })).rejects.toMatchObject({ code: 'not_found' })
      await house.runs.delete(run.id, ann)
      await expect(house.runs.get(run.id, ann)).rejects.toMatchObject({ code: 'not_found' })
      expect(await house.runs.sessions.messages(ann, { sessionKey: 'gone', limit: 10 })).toEqual([])
    })

    test('a run that is under way is cancelled before it is deleted', async () => {
      house.provider.push(calling('hang'))
      const { id } = await house.submit('x')
      await house.gateway.events.waitFor('run:tool_call', ({ subject }) => subject === id)
      await house.runs.delete(id, ann)
      await house.gateway.events.waitFor('run:cancelled', ({ subject }) => subject === id)
    })

    test('retrying gives a new run in the same session', async () => {
      house.provider.push({ error: { status: 500 } })
      const failed = await house.end((await house.submit('x', { sessionKey: 'again' })).id)
      const retried = await house.end((await house.runs.retry(failed.id, ann)).id)
      expect(retried).toMatchObject({ state: 'completed', sessionKey: 'again', metadata: { retryOf: failed.id }, input: { text: 'x' } })
    })

    test('runs are forgotten after their retention, sessions when they were idle for too long', async () => {
      const run = await house.end((await house.submit('x', { agent: 'brief', sessionKey: 'brief' })).id)
      const events: string[] = []
      const options = {
        ...{ db: house.db, clock: { now: () => Date.now() + 2_000, sleep: async () => undefined }, log: undefined as never, retention: 1_000 },
        ...{ signal: new AbortController().signal, forget: async () => undefined, isAway: () => false },
        publish: (async (_: unknown, { sessionKey }: { sessionKey: string }) => void events.push(sessionKey)) as never,
        sessions: {
          remove: async (tx: any, ids: string[]) => void (await tx.execute(`delete from runs_sessions where id = any('{${ids.join(',')}}')`)),
        } as never,
      }
      while (await sweepOnce(options));
      expect(events).toEqual(['brief'])
      await expect(house.runs.get(run.id, ann)).rejects.toMatchObject({ code: 'not_found' })
      expect((await house.runs.list(ann)).every(({ endedAt }) => endedAt === null)).toBe(true)
    })
  })
})
