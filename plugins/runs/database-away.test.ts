import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ScriptedCall } from 'portico/plugins/models/testing'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { ann, noteTool, type RunsGateway, startRunsGateway } from '../../test/fixtures/runs.ts'
import { databases } from '../../test/fixtures/stores.ts'
import { until } from '../../test/fixtures/until.ts'

/** What happens in the middle. */
const hooks: { model?: (call: number) => void; tool?: () => void } = {}
const noted: string[] = []
const calls = { model: 0 }

/** The tool that the message names, then the answer. */
const script = ({ body }: ScriptedCall) => {
  calls.model++
  hooks.model?.(calls.model)
  const { messages } = body as { messages: { role: string; content: string }[] }
  const last = messages.at(-1)
  if (last?.role === 'tool') return { text: 'done' }
  if (last?.content === 'a file') return { toolCalls: [{ name: 'write_file', arguments: { path: 'away.txt', content: 'all of it' } }] }
  return { toolCalls: [{ name: last?.content === 'gated' ? 'note_gated' : 'note', arguments: { text: 'x' } }] }
}
const tool = noteTool(noted)
const watched = {
  ...tool,
  run: (...given: Parameters<typeof tool.run>) => {
    hooks.tool?.()
    return tool.run(...given)
  },
}

type Send = () => Promise<unknown>
const lost = () => Object.assign(new Error('Connection terminated unexpectedly'), { code: 'ECONNRESET' })

describe.each(databases)('on %s', (database) => {
  let postgres: TestPostgres | undefined
  let house: RunsGateway
  let folder: string
  /** Sees each statement of a transaction or of `db`; gives what is done with it. */
  let intercept: (text: string) => ((send: Send) => Promise<unknown>) | undefined
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'portico-away-'))
    postgres = database === 'postgres' ? await startPostgres() : undefined
    house = await startRunsGateway({
      databaseUrl: await postgres?.newDatabase(),
      config: 'lease = 1000',
      more: `[workspace]\nroot = "${folder}"`,
      tools: [watched, noteTool(noted, { name: 'note_gated', risk: 'gated' })],
      provider: { script },
    })
    interceptStatements()
  }, 60_000)
  afterAll(async () => {
    await house.stop()
    await postgres?.stop()
    await rm(folder, { recursive: true, force: true })
  })
  beforeEach(() => {
    intercept = () => undefined
    Object.assign(hooks, { model: undefined, tool: undefined })
    noted.length = 0
    calls.model = 0
    house.gateway.events.clear()
  })

  function interceptStatements(): void {
    const { pool } = house.database
    const connect = pool.connect.bind(pool) as () => Promise<any>
    const seen = new WeakSet<object>()
    Object.assign(pool, {
      async connect(callback?: unknown) {
        // What the pool itself asks for passes as it is.
        if (callback) return (connect as any)(callback)
        const client = await connect()
        if (seen.has(client)) return client
        seen.add(client)
        const query = client.query.bind(client)
        client.query = (config: string | { text: string }, ...rest: unknown[]) => {
          const send = () => query(config, ...rest)
          if (typeof rest.at(-1) === 'function') return send()
          return intercept(typeof config === 'string' ? config : config.text)?.(send) ?? send()
        }
        return client
      },
    })
  }

  /** Loses the connection at the n-th statement from now that contains the text, once. */
  function loseAt(text: string, n: number, lose: (send: Send) => Promise<unknown>): { done: boolean } {
    const state = { done: false }
    let count = 0
    intercept = (statement) => {
      if (state.done || !statement.includes(text) || ++count < n) return undefined
      state.done = true
      return lose
    }
    return state
  }

  /** The database is not there for a while: what is asked of it from now on is lost until it is back. */
  let back: Promise<void> = Promise.resolve()
  function goAway(): Promise<void> {
    let isAway = true
    intercept = () => (isAway ? () => Promise.reject(lost()) : undefined)
    back = (postgres ? postgres.restart(300) : Bun.sleep(300)).then(() => {
      isAway = false
    })
    return back
  }
  // The next test finds it there.
  afterEach(() => back)

  const typesOf = async (id: string) => (await house.runs.entries(id, ann)).map(({ type }) => type)
  async function endsRight(id: string, result = 'done'): Promise<void> {
    const run = await house.end(id).catch(() => back.then(() => house.end(id)))
    expect([run.state, run.result]).toEqual(['completed', result])
    const seqs = (await house.runs.entries(id, ann)).map(({ seq }) => seq)
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    expect(calls.model).toBe(2)
  }
  async function gateOf(id: string) {
    await house.gateway.events.waitFor('run:awaiting_approval', ({ subject }) => subject === id)
    await back
    return (await house.approvals.ofRun(id)).filter(({ state }) => state === 'pending')
  }

  /** How a connection is lost: with a statement that did not get there, with the answer to one that did, or with the whole database for a while. */
  const losses: [name: string, lose: (send: Send) => Promise<unknown>][] = [
    ['before it is done', () => Promise.reject(lost())],
    ['after it was done', (send) => send().then(() => Promise.reject(lost()))],
    [
      'after it was done, and the database stays away',
      async (send) => {
        await send()
        void goAway()
        throw lost()
      },
    ],
  ]
  const writes = ['the model’s answer', 'the begin of a tool call', 'the result of a tool call, after its effect', 'the last answer', 'the end']
  describe.each(losses)('the connection is lost %s', (how, lose) => {
    test.each(writes.map((name, index) => [name, index + 1] as const))('%s: nothing is repeated, nothing lost', async (_, n) => {
      const { id } = await house.submit('x')
      const state = loseAt('runs_write', n, lose)
      await endsRight(id)
      expect([state.done, noted.length]).toEqual([true, 1])
      expect(await typesOf(id)).toEqual(['queued', 'started', 'model_call', 'tool_call', 'tool_result', 'model_call', 'completed'])
    })

    test('a run is taken in: sent again with its key it is the same run, done once', async () => {
      const again = { idempotency: { key: how, hash: 'h' } }
      const state = loseAt('runs_submit', 1, lose)
      await expect(house.submit('x', again)).rejects.toThrow()
      await back
      const { id } = await house.submit('x', again)
      // One that was begun without anybody's knowledge goes on when its lease has run out.
      await endsRight(id)
      expect([state.done, noted.length]).toEqual([true, 1])
      expect(await house.runs.list(ann, { state: 'running' })).toEqual([])
    }, 15_000)

    test('a run is taken from the queue', async () => {
      const state = loseAt('runs_claim', 1, lose)
      const { id } = await house.submit('x', { startAt: new Date() })
      await endsRight(id)
      expect([state.done, noted.length]).toEqual([true, 1])
    }, 15_000)

    test.each(['runs_write', 'commit'])(
      'it comes to wait for an approval (%s): asked once, done once',
      async (statement) => {
        const state = { done: false }
        let isAsking = false
        intercept = (text) => {
          isAsking ||= text.includes('approvals_approvals')
          if (!isAsking || state.done || !text.includes(statement)) return undefined
          state.done = true
          return lose
        }
        const { id } = await house.submit('gated')
        const gates = await gateOf(id)
        expect([state.done, gates.length]).toEqual([true, 1])
        await house.approvals.decide(gates[0]?.id as string, { decision: 'approve', via: 'test' }, ann)
        await endsRight(id)
        expect([noted.length, (await house.approvals.ofRun(id)).length]).toEqual([1, 1])
      },
      15_000,
    )

    test.each([1, 2, 3])(
      'artifacts are applied (statement %i): all of them, once',
      async (n) => {
        const { id } = await house.submit('a file')
        const [gate] = await gateOf(id)
        let isApplying = false
        let count = 0
        const state = { done: false }
        intercept = (text) => {
          isApplying ||= text.includes('runs_claim')
          if (!isApplying || state.done || !text.includes('workspace_artifacts') || ++count < n) return undefined
          state.done = true
          return lose
        }
        await house.approvals.decide(gate?.id as string, { decision: 'approve', via: 'test' }, ann)
        await endsRight(id)
        expect([state.done, await readFile(join(folder, 'away.txt'), 'utf8')]).toEqual([true, 'all of it'])
        await rm(join(folder, 'away.txt'))
      },
      15_000,
    )
  })

  test('the database is away while a run waits for an approval: it waits on, and is decided when it is back', async () => {
    const { id } = await house.submit('gated')
    const [gate] = await gateOf(id)
    const away = goAway()
    await expect(house.approvals.decide(gate?.id as string, { decision: 'approve', via: 'test' }, ann)).rejects.toThrow()
    await away
    await until(() =>
      house.approvals.decide(gate?.id as string, { decision: 'approve', via: 'test' }, ann).then(
        () => true,
        () => false,
      ),
    )
    await endsRight(id)
    expect(noted.length).toBe(1)
  }, 15_000)

  const moments: [name: string, arm: () => void][] = [
    ['during the first model call', () => (hooks.model = (call) => call === 1 && void goAway())],
    ['during a tool call', () => (hooks.tool = () => void goAway())],
    ['during the last model call', () => (hooks.model = (call) => call === 2 && void goAway())],
  ]
  test.each(moments)(
    'the database is away %s: nothing is repeated, nothing lost, the run goes on when it is back',
    async (_, arm) => {
      arm()
      const { id } = await house.submit('x')
      await endsRight(id)
      expect(noted.length).toBe(1)
    },
    30_000,
  )
})
