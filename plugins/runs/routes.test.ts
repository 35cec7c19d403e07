/** The dialect: what reaches the service `runs`, and how its answers look. The service is an in-memory one here. */
import { afterAll, beforeAll, beforeEach, describe, expect, spyOn, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { authMethods, type Clock, type Command, type CommandContext, definePlugin, GatewayError, guard, hasScope, type Principal, rpc } from 'portico'
import { readSse } from 'portico/plugins/events'
import type { Artifact, Workspace } from 'portico/plugins/workspace'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'
import { toBlocks } from './blocks.ts'
import commands from './cli.ts'
import type { Run, RunEntry, RunFilter, RunMode, RunState, RunSubmission, Runs, RunUpdate } from './contract.ts'
import { runRoutes } from './routes.ts'
import { openRunStream, runSocket } from './stream.ts'

type Untold<T> = T extends unknown ? Omit<T, 'id'> : never

const principals: Record<string, Principal> = Object.fromEntries(
  Object.entries({ ann: ['rpc'], bob: ['rpc'], models: ['api'] }).map(([id, scopes]) => [id, { id, kind: 'user', scopes, groups: [], via: `test:${id}` }]),
)

/** Keeps what it was asked, and tells what the test says. */
class MemoryRuns implements Runs {
  readonly all: Run[] = []
  readonly asked: { submission: RunSubmission; mode?: RunMode }[] = []
  readonly filters: RunFilter[] = []
  readonly calls: unknown[][] = []
  readonly told = new Map<string, RunUpdate[]>()
  /** Updates that were taken, and watchers that are there. */
  taken = 0
  watchers = 0
  endsAtOnce = false
  #wake = () => {}
  #changed = Promise.resolve()

  constructor() {
    this.#arm()
  }

  add(fields: Partial<Run> = {}): Run {
    const id = `run_${this.all.length + 1}`
    const spec = { agent: 'default', model: 'demo/echo', fallbacks: [], instructions: '', tools: [], maxSteps: 20, timeout: 60_000 }
    const run: Run = {
      ...{ id, spec, state: 'running', principal: principals.ann as Principal, sessionId: 'sess_1', sessionKey: 'notes', parentId: null, depth: 0 },
      ...{ input: { text: 'What is in notes.md?' }, model: 'demo/echo', result: null, finishReason: null, error: null, steps: 0, priority: 0 },
      ...{ usage: { inputTokens: 0, outputTokens: 0, cost: null }, isInteractive: false, metadata: {} },
      ...{ createdAt: new Date(Date.UTC(2026, 0, 1) + this.all.length * 1_000), startedAt: null, endedAt: null },
      ...fields,
    }
    this.all.push(run)
    this.told.set(run.id, [])
    return run
  }

  /** Tells the watchers; the update's id is its number. */
  tell(id: string, ...updates: Untold<RunUpdate>[]): void {
    const told = this.told.get(id) as RunUpdate[]
    for (const update of updates) told.push({ ...update, id: String(told.length + 1) } as RunUpdate)
    this.#wake()
    this.#arm()
  }

  entry(id: string, type: RunEntry['type'], data: RunEntry['data'] = {}): void {
    const seq = this.#entries(id).length + 1
    this.tell(id, { type: 'entry', entry: { seq, type, at: new Date(Date.UTC(2026, 0, 1, 0, 1, seq)), data } })
  }

  end(id: string, state: RunState, fields: Partial<Run> = {}): void {
    const index = this.all.findIndex((run) => run.id === id)
    const run: Run = { ...(this.all[index] as Run), ...fields, state, endedAt: new Date(Date.UTC(2026, 0, 1, 0, 2)) }
    this.all[index] = run
    this.tell(id, { type: 'end', run })
  }

  submit(submission: RunSubmission): Promise<Run> {
    return this.#take(submission)
  }

  send(submission: RunSubmission, mode: RunMode): Promise<Run> {
    return this.#take(submission, mode)
  }

  async #take(submission: RunSubmission, mode?: RunMode): Promise<Run> {
    if (submission.agent === 'nobody') throw new GatewayError('not_found', 'There is no agent "nobody".', { param: 'agent' })
    const before = this.asked.find((each) => each.submission.idempotency?.key === submission.idempotency?.key)
    if (submission.idempotency && before) {
      if (before.submission.idempotency?.hash !== submission.idempotency.hash) throw new GatewayError('conflict', 'The key was used for something else.')
      return this.all[this.asked.indexOf(before)] as Run
    }
    this.asked.push({ submission, mode })
    const run = this.add({ state: 'queued', principal: submission.principal, sessionKey: submission.sessionKey ?? 'sess_1', input: submission.input })
    if (this.endsAtOnce) this.end(run.id, 'completed')
    return run
  }

  async get(id: string, principal: Principal): Promise<Run> {
    const run = this.all.find((each) => each.id === id)
    if (!run || !(run.principal.id === principal.id || hasScope(principal, 'admin'))) throw new GatewayError('not_found', `There is no run ${id}.`)
    return run
  }

  async list(principal: Principal, filter: RunFilter = {}): Promise<Run[]> {
    this.filters.push(filter)
    const own = this.all.filter((run) => run.principal.id === principal.id && (filter.state === undefined || run.state === filter.state))
    return own.reverse().slice(0, filter.limit ?? 50)
  }

  async entries(id: string, principal: Principal, since = 0): Promise<RunEntry[]> {
    await this.get(id, principal)
    return this.#entries(id)
      .filter(({ seq }) => seq > since)
      .slice(0, 1_000)
  }

  async *watch(id: string, principal: Principal, { signal, after }: { signal: AbortSignal; after?: string }): AsyncGenerator<RunUpdate, void> {
    await this.get(id, principal)
    const gone = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    this.watchers++
    try {
      for (let at = Number(after ?? 0); !signal.aborted; ) {
        const update = this.told.get(id)?.[at]
        if (!update) {
          await Promise.race([this.#changed, gone])
          continue
        }
        if (update.type === 'progress' && update.message === 'break') throw new Error('secret of the store')
        at++
        this.taken++
        yield update
        if (update.type === 'end') return
      }
    } finally {
      this.watchers--
    }
  }

  async cancel(id: string, principal: Principal, options?: object): Promise<string[]> {
    this.calls.push(['cancel', id, options])
    const run = await this.get(id, principal)
    return run.endedAt === null ? [id, 'run_child'] : []
  }

  async cancelAll(reason: string): Promise<string[]> {
    this.calls.push(['cancelAll', reason])
    return this.all.map(({ id }) => id)
  }

  async retry(id: string, principal: Principal): Promise<Run> {
    const { endedAt, sessionKey } = await this.get(id, principal)
    if (endedAt === null) throw new GatewayError('conflict', `${id} is not over: cancel it first.`)
    return this.add({ state: 'queued', sessionKey })
  }

  async delete(id: string, principal: Principal): Promise<void> {
    await this.get(id, principal)
    this.calls.push(['delete', id])
  }

  get sessions(): Runs['sessions'] {
    throw new Error('The dialect does not ask for sessions.')
  }

  #entries(id: string): RunEntry[] {
    return (this.told.get(id) ?? []).flatMap((update) => (update.type === 'entry' ? [update.entry] : []))
  }

  #arm(): void {
    this.#changed = new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

const artifact: Artifact = {
  ...{ id: 'art_1', runId: 'run_1', path: 'notes.md', change: 'modified', state: 'applied', size: 6, isBinary: false, diff: '+1 -1' },
  ...{ before: 'a'.repeat(64), after: 'b'.repeat(64) },
}
const patch = '--- a/notes.md\n+++ b/notes.md\n@@ -1 +1 @@\n-old\n+new\n'
const workspace = {
  artifacts: async () => [artifact],
  async patch(_: string, id: string) {
    if (id !== artifact.id) throw new GatewayError('not_found', `There is no artifact ${id}.`)
    return patch
  },
  async undo(runId: string) {
    if (runId !== 'run_1') throw new GatewayError('conflict', 'notes.md has changed since.')
    return [{ ...artifact, state: 'undone' }]
  },
} as Partial<Workspace> as Workspace

let gateway: TestGateway
let runs: MemoryRuns
/** How often a socket waited for its peer, and how much later it is for sockets than for all others. */
let waits = 0
let ahead = 0
const patient = (clock: Clock): Clock => ({
  now: () => clock.now() + ahead,
  sleep(ms, signal) {
    waits++
    return clock.sleep(ms, signal)
  },
})
/** What ends the streams of a credential. */
const closers = new Map<() => void, string>()
const revoke = (who: string) => [...closers].filter(([, id]) => id === who).map(([close]) => close())

const plugin = definePlugin({
  id: 'runs-dialect',
  version: '1.0.0',
  api: 1,
  summary: 'The dialect over runs in memory',
  paths: ['/v1/runs', '/v1/estop', '/ws/runs', '/quiet', '/api/approvals'],
  adds: [authMethods],
  setup({ add, clock, log }) {
    add(authMethods, {
      name: 'names',
      authenticate({ token = '' }) {
        const principal = principals[token]
        const held = (close: () => void) => {
          closers.set(close, token)
          return () => closers.delete(close)
        }
        return principal ? { principal, held } : null
      },
    })
    // The service of the test at hand.
    const service = new Proxy({} as Runs, { get: (_, name: keyof Runs) => (runs[name] as () => unknown).bind(runs) })
    return {
      routes: [
        ...runRoutes(service, log, workspace),
        guard(
          rpc,
          (app) => app.get('/quiet/:id', ({ params, request }) => openRunStream(service, params.id, request, { format: 'deltas', log, keepAliveMs: 5 })),
          {
            stream: true,
          },
        ),
        guard(rpc, (app) =>
          app.get('/api/approvals/:id', ({ params }) => {
            if (params.id === 'apr_tool') return { id: 'apr_tool', kind: 'tool', title: 'write_mail', question: 'May write_mail be called?' }
            if (params.id === 'apr_question') return { id: 'apr_question', kind: 'question', title: 'ask_user', question: 'Which colour?' }
            throw new GatewayError('not_found', 'There is none.')
          }),
        ),
      ],
      sockets: [runSocket(service, { clock: patient(clock), log })],
    }
  },
})

beforeAll(async () => {
  gateway = await startTestGateway({ only: [plugin], listen: true })
})
afterAll(() => gateway?.stop())
beforeEach(() => {
  runs = new MemoryRuns()
})

const get = (path: string, as = 'ann') => gateway.json(path, { as })
const post = (path: string, body?: unknown, headers: Record<string, string> = {}, as = 'ann') => gateway.json(path, { method: 'POST', as, body, headers })
const lastAsked = () => runs.asked.at(-1)?.submission
const codeOf = ({ status, body }: { status: number; body: any }) => `${status} ${body?.error?.code}`

describe('POST /v1/runs', () => {
  test('takes a message in and answers 202 with the run', async () => {
    const { status, body } = await post('/v1/runs', { message: 'What is in notes.md?' })
    expect([status, body]).toEqual([
      202,
      { run_id: 'run_1', accepted_at: '2026-01-01T00:00:00.000Z', session_key: 'sess_1', stream_url: '/v1/runs/run_1/stream' },
    ])
    expect(lastAsked()).toEqual({
      ...{ principal: principals.ann as Principal, agent: undefined, priority: undefined, dependsOn: undefined, channel: 'api', metadata: {} },
      input: { text: 'What is in notes.md?', images: undefined, context: undefined },
    })
  })

  test('hands on all that was asked; the lane stands in the metadata', async () => {
    const before = Date.now()
    const image = 'https://images.example/cat.png'
    const { status } = await post('/v1/runs', {
      ...{ message: 'x', session_key: 'notes', model: 'demo/echo', agent: 'janitor', lane: 'main', context: ['It rains.'], images: [image] },
      ...{ priority: -3, delay_ms: 60_000, depends_on: ['run_7'], metadata: { ticket: 7 } },
    })
    expect(status).toBe(202)
    const { startAt, ...asked } = lastAsked() as RunSubmission
    expect(asked).toEqual({
      ...{ principal: principals.ann as Principal, agent: 'janitor', priority: -3, dependsOn: ['run_7'], channel: 'api', sessionKey: 'notes' },
      ...{ input: { text: 'x', images: [image], context: ['It rains.'] }, override: { model: 'demo/echo' }, metadata: { ticket: 7, lane: 'main' } },
    })
    expect(startAt?.getTime()).toBeWithin(before + 60_000, Date.now() + 60_001)
  })

  test('a context may be one text; an empty one is none', async () => {
    await post('/v1/runs', { message: 'x', context: 'It rains.' })
    expect(lastAsked()?.input.context).toEqual(['It rains.'])
    await post('/v1/runs', { message: 'x', context: '' })
    expect(lastAsked()?.input.context).toBeUndefined()
  })

  test('the header X-Portico-Model beats `model`', async () => {
    await post('/v1/runs', { message: 'x', model: 'demo/echo' }, { 'x-portico-model': 'demo/other' })
    expect(lastAsked()?.override).toEqual({ model: 'demo/other' })
  })

  test('the same Idempotency-Key gives the same answer, whatever the order of the fields; another body or model is a conflict', async () => {
    const key = { 'idempotency-key': 'k1' }
    const first = await post('/v1/runs', { message: 'x', metadata: { a: 1, b: 2 } }, key)
    const again = await post('/v1/runs', { metadata: { b: 2, a: 1 }, message: 'x' }, key)
    expect([again.status, again.body]).toEqual([first.status, first.body])
    expect(lastAsked()?.idempotency).toEqual({ key: 'k1', hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
    expect(codeOf(await post('/v1/runs', { message: 'x', metadata: { a: 1, b: 3 } }, key))).toBe('409 conflict')
    expect(codeOf(await post('/v1/runs', { message: 'x', metadata: { a: 1, b: 2 } }, { ...key, 'x-portico-model': 'demo/other' }))).toBe('409 conflict')
    expect(codeOf(await post('/v1/runs', { message: 'x' }, { 'idempotency-key': 'k'.repeat(201) }))).toBe('400 validation_failed')
    expect(runs.asked).toHaveLength(1)
  })

  test.each(['followup', 'steer', 'collect', 'interrupt'])('mode %s says how it reaches the session, by its name or by one of its runs', async (mode) => {
    await post('/v1/runs', { message: 'x', mode, session_key: 'notes' })
    expect(runs.asked.at(-1)).toMatchObject({ mode, submission: { sessionKey: 'notes' } })
    await post('/v1/runs', { message: 'x', mode, run_id: 'run_1' })
    expect(runs.asked.at(-1)).toMatchObject({ mode, submission: { sessionKey: 'sess_1' } })
  })

  test('in a new session there is nothing to steer: it is a run like any other', async () => {
    await post('/v1/runs', { message: 'x', mode: 'steer' })
    expect(runs.asked).toMatchObject([{ mode: undefined, submission: { input: { text: 'x' } } }])
  })

  test.each([
    [{}, '400 validation_failed'],
    [{ message: '' }, '400 validation_failed'],
    [{ message: 'x', priority: 101 }, '400 validation_failed'],
    [{ message: 'x', priority: '5' }, '400 validation_failed'],
    [{ message: 'x', mode: 'shout' }, '400 validation_failed'],
    [{ message: 'x', session_key: '../etc' }, '400 validation_failed'],
    [{ message: 'x', images: ['file:///etc/passwd'] }, '400 validation_failed'],
    [{ message: 'x', delay_ms: -1 }, '400 validation_failed'],
    [{ message: 'x', depends_on: ['run\0'] }, '400 validation_failed'],
    [{ message: 'x', unknown: true }, '400 validation_failed'],
    [{ message: 'x', session_key: 'notes', run_id: 'run_1' }, '400 validation_failed'],
    [{ message: 'x', run_id: 'run_9' }, '404 not_found'],
    [{ message: 'x', agent: 'nobody' }, '404 not_found'],
  ])('%j is %s, in the envelope', async (body, expected) => {
    const answer = await post('/v1/runs', body)
    expect(codeOf(answer)).toBe(expected)
    expect(answer.body.error).toMatchObject({ message: expect.any(String), type: expect.any(String), requestId: expect.any(String) })
    expect(runs.asked).toEqual([])
  })

  test('metadata beyond its bound is refused by name', async () => {
    const answer = await post('/v1/runs', { message: 'x', metadata: { long: 'x'.repeat(16_000) } })
    expect([codeOf(answer), answer.body.error.param]).toEqual(['400 validation_failed', 'metadata'])
  })

  test('needs the scope rpc', async () => {
    expect((await post('/v1/runs', { message: 'x' }, {}, 'models')).status).toBe(403)
    expect((await post('/v1/runs', { message: 'x' }, {}, '')).status).toBe(401)
  })
})

describe('reading', () => {
  test('a run has the fields of the seed, and Portico’s own beside them', async () => {
    runs.add({ parentId: 'run_0', depth: 1, usage: { inputTokens: 10, outputTokens: 5, cost: 0.000_042 }, steps: 3, metadata: { lane: 'main' } })
    runs.end('run_1', 'completed', { result: 'A list.', finishReason: 'stop' })
    expect((await get('/v1/runs/run_1')).body).toEqual({
      ...{ run_id: 'run_1', status: 'completed', state: 'completed', agent_id: 'default', parent_run_id: 'run_0', depth: 1, session_key: 'notes' },
      ...{ model: 'demo/echo', message: 'What is in notes.md?', result: 'A list.', finish_reason: 'stop', error: null, steps: 3, priority: 0 },
      ...{ tokens_used: 15, input_tokens: 10, output_tokens: 5, cost_microdollars: 42, metadata: { lane: 'main' }, created_at: '2026-01-01T00:00:00.000Z' },
      ...{ created_at_epoch_ms: Date.UTC(2026, 0, 1), started_at: null, ended_at: '2026-01-01T00:02:00.000Z' },
    })
  })

  test('a failed run says why; to clients of the seed a rejected one has failed', async () => {
    runs.add({ state: 'failed', error: { code: 'max_steps', message: 'It did not come to an end.' } })
    runs.add({ state: 'rejected' })
    expect((await get('/v1/runs/run_1')).body.error).toEqual({ code: 'max_steps', message: 'It did not come to an end.' })
    expect((await get('/v1/runs/run_2')).body).toMatchObject({ status: 'failed', state: 'rejected', error: { code: 'rejected' } })
  })

  test('the list hands its filter on, and shows long answers by their beginning', async () => {
    runs.add({ result: `${'x'.repeat(1_999)}😀${'x'.repeat(999)}` })
    const { body } = await get('/v1/runs?agent=janitor&session_key=notes&parent=run_0&limit=7&before=run_9')
    expect(runs.filters).toEqual([{ agent: 'janitor', sessionKey: 'notes', parentId: 'run_0', limit: 7, before: 'run_9' }])
    expect(body).toMatchObject({ object: 'list', total: 1, data: [{ run_id: 'run_1', result: 'x'.repeat(1_999) }] })
    expect((await get('/v1/runs/run_1')).body.result).toHaveLength(3_000)
    for (const query of ['limit=0', 'limit=201', 'status=lost', 'before=%00', 'unknown=1'])
      expect([query, codeOf(await get(`/v1/runs?${query}`))]).toEqual([query, '400 validation_failed'])
  })

  test('status=failed finds rejected ones too, in their order; status=rejected them alone', async () => {
    for (const state of ['failed', 'rejected', 'completed', 'failed'] as const) runs.add({ state })
    const ids = async (query: string) => (await get(`/v1/runs?${query}`)).body.data.map(({ run_id }: { run_id: string }) => run_id)
    expect(await ids('status=failed')).toEqual(['run_4', 'run_2', 'run_1'])
    expect(await ids('status=failed&limit=2')).toEqual(['run_4', 'run_2'])
    expect(await ids('status=rejected')).toEqual(['run_2'])
    expect(await ids('status=completed')).toEqual(['run_3'])
  })

  test('the result is 202 with Retry-After until the run is over', async () => {
    runs.add()
    const pending = await get('/v1/runs/run_1/result')
    expect([pending.status, pending.headers.get('retry-after'), pending.body.status]).toEqual([202, '1', 'running'])
    runs.end('run_1', 'completed', { result: 'done' })
    expect(await get('/v1/runs/run_1/result')).toMatchObject({ status: 200, body: { status: 'completed', result: 'done' } })
  })

  test('events are what the run did, after since_seq, each with the fields it has', async () => {
    runs.add()
    runs.entry('run_1', 'started', { epoch: 1 })
    runs.entry('run_1', 'model_call', { text: 'Let me see.', model: 'demo/echo', calls: [{ call: '1.0', name: 'read_file', input: { path: 'notes.md' } }] })
    runs.entry('run_1', 'tool_call', { call: '1.0', callId: 'toolu_1', tool: 'read_file', input: { path: 'notes.md' } })
    runs.entry('run_1', 'tool_result', { call: '1.0', tool: 'read_file', isError: false, parts: [{ type: 'text', text: 'A list.' }] })
    runs.entry('run_1', 'failed', { error: { code: 'max_steps', message: 'No end.', retryAfter: 3 } })
    const { body } = await get('/v1/runs/run_1/events')
    const common = { run_id: 'run_1', at: expect.stringMatching(/^2026-01-01T00:01:0\d\.000Z$/) }
    expect(body).toEqual({
      ...{ object: 'list', run_id: 'run_1', total: 5, has_more: false },
      events: [
        { ...common, seq: 1, type: 'started' },
        {
          ...{ ...common, seq: 2, type: 'model_call', text: 'Let me see.', model: 'demo/echo' },
          tool_calls: [{ call_id: '1.0', tool: 'read_file', input: { path: 'notes.md' } }],
        },
        { ...common, seq: 3, type: 'tool_call', call_id: '1.0', tool: 'read_file', input: { path: 'notes.md' } },
        { ...common, seq: 4, type: 'tool_result', call_id: '1.0', tool: 'read_file', is_error: false, result: [{ type: 'text', text: 'A list.' }] },
        { ...common, seq: 5, type: 'failed', error: { code: 'max_steps', message: 'No end.' } },
      ],
    })
    expect((await get('/v1/runs/run_1/events?since_seq=4')).body.events.map(({ seq }: { seq: number }) => seq)).toEqual([5])
    expect(codeOf(await get('/v1/runs/run_1/events?since_seq=x'))).toBe('400 validation_failed')
  })

  test('events come in pages of a bounded size; the transcript says that it is not whole', async () => {
    runs.add()
    for (let step = 0; step < 5; step++) runs.entry('run_1', 'model_call', { text: 'x'.repeat(1_500_000), calls: [] })
    const { body } = await get('/v1/runs/run_1/events')
    expect([body.events.length, body.total, body.has_more]).toEqual([2, 2, true])
    expect((await get('/v1/runs/run_1/events?since_seq=4')).body).toMatchObject({ total: 1, has_more: false })
    const transcript = (await get('/v1/runs/run_1/transcript')).body
    expect([transcript.entries.length, transcript.truncated]).toEqual([3, true])
  })

  test('the transcript is what was said, over as many pages as the record has', async () => {
    runs.add()
    for (let seq = 0; seq < 1_000; seq++) runs.entry('run_1', 'started')
    runs.entry('run_1', 'model_call', { text: '', calls: [] })
    runs.entry('run_1', 'tool_result', {
      call: '1.0',
      tool: 'look',
      parts: [
        { type: 'text', text: 'A cat.' },
        { type: 'image', data: '', mediaType: 'image/png' },
      ],
    })
    runs.entry('run_1', 'tool_result', { call: '1.1', tool: 'count', parts: [], structured: { cats: 1 } })
    runs.entry('run_1', 'message', { text: 'And dogs?' })
    runs.entry('run_1', 'model_call', { text: 'One cat.', calls: [] })
    const { body } = await get('/v1/runs/run_1/transcript')
    expect(body.truncated).toBe(false)
    expect(body.entries.map(({ role, content }: { role: string; content: string }) => `${role}: ${content}`)).toEqual([
      'user: What is in notes.md?',
      'tool: A cat.\n[image image/png]',
      'tool: {"cats":1}',
      'user: And dogs?',
      'assistant: One cat.',
    ])
    expect(body.entries[0].created_at).toBe('2026-01-01T00:00:00.000Z')
  })

  test.each([
    ['GET', ''],
    ['GET', '/result'],
    ['GET', '/events'],
    ['GET', '/transcript'],
    ['GET', '/stream'],
    ['GET', '/artifacts'],
    ['GET', '/artifacts/art_1/patch'],
    ['POST', '/artifacts/undo'],
    ['POST', '/cancel'],
    ['POST', '/retry'],
    ['DELETE', ''],
    ['DELETE', '?purge=true'],
  ])('%s /v1/runs/:id%s: another’s run is not there, nor is an unknown one', async (method, path) => {
    runs.add()
    expect(codeOf(await gateway.json(`/v1/runs/run_1${path}`, { method, as: 'bob' }))).toBe('404 not_found')
    expect(codeOf(await gateway.json(`/v1/runs/run_2${path}`, { method, as: 'ann' }))).toBe('404 not_found')
    expect(runs.calls.filter(([what]) => what === 'delete')).toEqual([])
  })

  test('an administrator sees every run', async () => {
    runs.add()
    expect((await get('/v1/runs/run_1', gateway.adminToken)).status).toBe(200)
  })
})

describe('ending', () => {
  const remove = (path: string) => gateway.json(path, { method: 'DELETE', as: 'ann' })

  test('DELETE cancels it with its children, and says whom', async () => {
    runs.add()
    expect(await remove('/v1/runs/run_1')).toMatchObject({
      status: 200,
      body: { run_id: 'run_1', cancelled: true, cascade_count: 1, cancelled_ids: ['run_1', 'run_child'] },
    })
    await remove('/v1/runs/run_1?cascade=false')
    expect(runs.calls).toEqual([
      ['cancel', 'run_1', { cascade: undefined }],
      ['cancel', 'run_1', { cascade: false }],
    ])
  })

  test('a run that is over is not cancelled, but can be purged', async () => {
    runs.add({ endedAt: new Date() })
    expect((await remove('/v1/runs/run_1')).body).toEqual({ run_id: 'run_1', cancelled: false, cascade_count: 0, cancelled_ids: [] })
    expect((await remove('/v1/runs/run_1?purge=true')).status).toBe(200)
    expect(runs.calls.at(-1)).toEqual(['delete', 'run_1'])
  })

  test('POST …/cancel takes a reason', async () => {
    runs.add()
    expect((await post('/v1/runs/run_1/cancel?reason=wrong+file&cascade=true')).body.cancelled).toBe(true)
    expect(runs.calls).toEqual([['cancel', 'run_1', { reason: 'wrong file', cascade: true }]])
    expect(codeOf(await post(`/v1/runs/run_1/cancel?reason=${'x'.repeat(1_001)}`))).toBe('400 validation_failed')
  })

  test('POST …/retry makes a new run of one that is over', async () => {
    runs.add()
    expect(codeOf(await post('/v1/runs/run_1/retry'))).toBe('409 conflict')
    runs.end('run_1', 'failed')
    expect(await post('/v1/runs/run_1/retry')).toMatchObject({ status: 202, body: { run_id: 'run_2', session_key: 'notes' } })
  })

  test('the emergency stop is the administrator’s', async () => {
    runs.add()
    expect((await post('/v1/estop')).status).toBe(403)
    expect(runs.calls).toEqual([])
    const { status, body } = await post('/v1/estop', undefined, {}, gateway.adminToken)
    expect([status, body]).toEqual([200, { emergency_stop: true, cancelled_count: 1, cancelled_ids: ['run_1'] }])
    expect(runs.calls).toEqual([['cancelAll', expect.stringMatching(/^Emergency stop by .+\.$/)]])
  })
})

describe('artifacts', () => {
  test('are listed with their diff, shown as a patch, and put back', async () => {
    runs.add()
    const view = {
      ...{ id: 'art_1', path: 'notes.md', change: 'modified', state: 'applied', size: 6, is_binary: false, diff: '+1 -1' },
      ...{ before: 'a'.repeat(64), after: 'b'.repeat(64) },
    }
    expect((await get('/v1/runs/run_1/artifacts')).body).toEqual({ artifacts: [view] })
    const diff = await gateway.fetch('/v1/runs/run_1/artifacts/art_1/patch', { as: 'ann' })
    expect([diff.headers.get('content-type'), await diff.text()]).toEqual(['text/x-diff; charset=utf-8', patch])
    expect(codeOf(await get('/v1/runs/run_1/artifacts/art_2/patch'))).toBe('404 not_found')
    expect((await post('/v1/runs/run_1/artifacts/undo')).body).toEqual({ artifacts: [{ ...view, state: 'undone' }] })
  })

  test('that changed since are not put back', async () => {
    runs.add()
    runs.add()
    expect(codeOf(await post('/v1/runs/run_2/artifacts/undo'))).toBe('409 conflict')
  })
})

/** A run that reads a file, waits, answers. */
function play(id: string): void {
  runs.entry(id, 'queued')
  runs.entry(id, 'started')
  runs.tell(id, { type: 'delta', text: 'Let me ' }, { type: 'delta', text: 'see.' })
  runs.entry(id, 'model_call', { text: 'Let me see.', calls: [] })
  runs.entry(id, 'tool_call', { call: '1.0', tool: 'read_file', input: { path: 'notes.md' } })
  runs.tell(id, { type: 'progress', callId: '1.0', message: 'reading', fraction: 0.5 })
  runs.entry(id, 'tool_result', { call: '1.0', tool: 'read_file', isError: false, parts: [] })
  runs.entry(id, 'awaiting_approval', { approvalIds: ['apr_tool', 'apr_question'] })
  runs.entry(id, 'started')
  runs.tell(id, { type: 'delta', text: 'A l' }, { type: 'delta', text: '# Notes', isRestart: true })
  runs.entry(id, 'model_call', { text: '# Notes\n\nA list.', calls: [] })
  runs.entry(id, 'completed', { finishReason: 'stop' })
  runs.end(id, 'completed', { result: '# Notes\n\nA list.', steps: 3, usage: { inputTokens: 10, outputTokens: 5, cost: null } })
}

describe('GET /v1/runs/:id/stream', () => {
  const open = (path: string, headers: Record<string, string> = {}, signal?: AbortSignal) => gateway.fetch(path, { as: 'ann', headers, signal })
  const framesOf = async (response: Response) => {
    const frames: { id?: string; event?: string; frame: Record<string, any> }[] = []
    for await (const { id, event, data } of readSse(response.body as ReadableStream<Uint8Array>))
      if (data !== '') frames.push({ id, event, frame: JSON.parse(data) })
    return frames
  }
  const typesOf = (frames: { frame: Record<string, any> }[]) => frames.map(({ frame }) => frame.type)

  test('sends the snapshot, then what happens, and ends with the end', async () => {
    runs.add()
    const reading = open('/v1/runs/run_1/stream')
    await until(() => runs.watchers === 1)
    play('run_1')
    const response = await reading
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const frames = await framesOf(response)
    expect(frames.map(({ id, frame: { seq, at, run_id, ...shown } }) => [id, shown])).toEqual([
      [undefined, expect.objectContaining({ type: 'snapshot', status: 'running' })],
      ['1', { type: 'status', status: 'queued', event: 'queued' }],
      ['2', { type: 'status', status: 'running', event: 'started' }],
      ['3', { type: 'delta', delta: 'Let me ' }],
      ['4', { type: 'delta', delta: 'see.' }],
      ['5', { type: 'model_call', text: 'Let me see.', tool_calls: [] }],
      ['6', { type: 'tool_call', call_id: '1.0', tool: 'read_file', input: { path: 'notes.md' } }],
      ['7', { type: 'progress', call_id: '1.0', message: 'reading', fraction: 0.5 }],
      ['8', { type: 'tool_result', call_id: '1.0', tool: 'read_file', is_error: false, result: [] }],
      ['9', { type: 'status', status: 'awaiting_approval', event: 'awaiting_approval', approval_ids: ['apr_tool', 'apr_question'] }],
      ['10', { type: 'status', status: 'running', event: 'started' }],
      ['11', { type: 'delta', delta: 'A l' }],
      ['12', { type: 'delta', delta: '# Notes', restart: true }],
      ['13', { type: 'model_call', text: '# Notes\n\nA list.', tool_calls: [] }],
      ['14', { type: 'status', status: 'completed', event: 'completed' }],
      ['end', expect.objectContaining({ type: 'completed', status: 'completed', result: '# Notes\n\nA list.' })],
    ])
    expect(frames.filter(({ event }) => event !== undefined)).toEqual([])
  })

  test('Last-Event-ID goes on after what was seen, from a snapshot of now; after the end 204 stops an EventSource', async () => {
    runs.add()
    play('run_1')
    const frames = await framesOf(await open('/v1/runs/run_1/stream', { 'last-event-id': '11' }))
    expect(frames.map(({ id, frame }) => `${id} ${frame.type}`)).toEqual(['undefined snapshot', '12 delta', '13 model_call', '14 status', 'end completed'])
    expect(frames[0]?.frame.status).toBe('completed')
    expect((await open('/v1/runs/run_1/stream', { 'last-event-id': 'end' })).status).toBe(204)
  })

  test('format=blocks sends whole answers in blocks, and no deltas', async () => {
    runs.add()
    play('run_1')
    const frames = await framesOf(await open('/v1/runs/run_1/stream?format=blocks'))
    expect(typesOf(frames)).not.toContain('delta')
    const blocks = [
      { type: 'header', level: 1, content: 'Notes' },
      { type: 'paragraph', content: 'A list.' },
    ]
    expect(frames.at(-1)?.frame).toMatchObject({ type: 'completed', format: 'blocks', blocks })
    expect(frames.find(({ id }) => id === '13')?.frame).toMatchObject({ type: 'model_call', format: 'blocks', blocks })
    expect(codeOf(await get('/v1/runs/run_1/stream?format=xml'))).toBe('400 validation_failed')
  })

  test.each([
    ['failed', 'failed'],
    ['cancelled', 'cancelled'],
    ['rejected', 'failed'],
  ] as const)('a run that is %s ends in %s', async (state, type) => {
    runs.add()
    runs.entry('run_1', state, state === 'failed' ? {} : { reason: 'Somebody said so.' })
    runs.end('run_1', state)
    const frames = await framesOf(await open('/v1/runs/run_1/stream'))
    expect(frames.map(({ frame }) => [frame.type, frame.status])).toEqual([
      ['snapshot', type],
      ['status', type],
      [type, type],
    ])
    expect(frames.at(-1)?.frame.state).toBe(state)
  })

  test('while nothing happens comments say that the line stands', async () => {
    runs.add()
    const response = await open('/quiet/run_1')
    const decoder = new TextDecoder()
    let text = ''
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true })
      if (text.split(': ping\n\n').length === 4) runs.end('run_1', 'completed')
    }
    expect(text.replaceAll(': ping\n\n', '')).toMatch(/^retry: 3000\n\ndata: \{"type":"snapshot".*\n\nid: end\ndata: \{"type":"completed".*\n\n$/)
  })

  test('a reader that does not read holds nothing up, and nothing is made for it', async () => {
    runs.add()
    for (let n = 0; n < 10_000; n++) runs.tell('run_1', { type: 'delta', text: `${n} ` })
    runs.end('run_1', 'completed')
    const request = new Request(`${gateway.url}/v1/runs/run_1/stream`, { headers: { authorization: 'Bearer ann' } })
    const reader = ((await gateway.gateway.fetch(request)).body as ReadableStream<Uint8Array>).getReader()
    // What to do on a reconnect, the snapshot, two deltas.
    for (let n = 0; n < 4; n++) await reader.read()
    await setImmediate()
    expect(runs.taken).toBe(2)
    expect(runs.watchers).toBe(1)
    await reader.cancel()
    await until(() => runs.watchers === 0)
    expect(closers.size).toBe(0)
  })

  test('a client that leaves is no longer waited for, whether something happens or not', async () => {
    runs.add()
    for (const happens of [false, true]) {
      const leaving = new AbortController()
      const response = await open('/v1/runs/run_1/stream', {}, leaving.signal)
      await (response.body as ReadableStream<Uint8Array>).getReader().read()
      await until(() => runs.watchers === 1)
      if (happens) runs.tell('run_1', { type: 'delta', text: 'x' })
      leaving.abort()
      await until(() => runs.watchers === 0 && closers.size === 0)
    }
  })

  test('revoking the credential ends it in an error that says so', async () => {
    runs.add()
    const reading = open('/v1/runs/run_1/stream').then(framesOf)
    await until(() => runs.watchers === 1)
    revoke('ann')
    expect((await reading).at(-1)?.frame).toEqual({ type: 'error', code: 'invalid_api_key', message: expect.any(String), requestId: expect.any(String) })
    expect(runs.watchers).toBe(0)
  })

  test('a stop of the gateway ends it at once, with the way to go on', async () => {
    const other = await startTestGateway({ only: [plugin], listen: true })
    runs.add()
    const reading = other.fetch('/v1/runs/run_1/stream', { as: 'ann' }).then(framesOf)
    await until(() => runs.watchers === 1)
    await other.stop()
    const last = (await reading).at(-1)
    expect([last?.id, last?.frame.type, last?.frame.code]).toEqual([undefined, 'error', 'unavailable'])
    expect(last?.frame.message).toContain('Last-Event-ID')
  })

  test('a failure of the gateway is an error frame that tells nothing of it; the log does', async () => {
    runs.add()
    runs.tell('run_1', { type: 'progress', callId: '1.0', message: 'break' })
    const frames = await framesOf(await open('/v1/runs/run_1/stream'))
    expect(frames.at(-1)?.frame).toMatchObject({ type: 'error', code: 'internal_error' })
    expect(JSON.stringify(frames)).not.toContain('secret')
    expect(gateway.log.at(-1)).toMatchObject({ level: 'error', message: 'The stream of a run failed', properties: { runId: 'run_1' } })
  })
})

describe('/ws/runs/:id', () => {
  async function open(path: string, as = 'ann') {
    const socket = new WebSocket(`${gateway.url?.replace('http', 'ws')}${path}`, { headers: { authorization: `Bearer ${as}` } } as never)
    const got: Record<string, any>[] = []
    socket.onmessage = ({ data }) => got.push(JSON.parse(data as string))
    const closed = new Promise<{ code: number; reason: string }>((resolve) => {
      socket.onclose = ({ code, reason }) => resolve({ code, reason })
    })
    await new Promise((resolve, reject) => {
      socket.onopen = resolve
      socket.onerror = reject
    })
    return { socket, got, closed }
  }

  test('sends the same frames, each with its id, and closes after the end', async () => {
    runs.add()
    const { got, closed } = await open('/ws/runs/run_1')
    await until(() => runs.watchers === 1)
    play('run_1')
    expect(await closed).toEqual({ code: 1000, reason: 'the run is over' })
    expect(got.map(({ id, type }) => `${id} ${type}`)).toEqual([
      ...['undefined snapshot', '1 status', '2 status', '3 delta', '4 delta', '5 model_call', '6 tool_call', '7 progress', '8 tool_result'],
      ...['9 status', '10 status', '11 delta', '12 delta', '13 model_call', '14 status', 'end completed'],
    ])
  })

  test('goes on after an id, and takes the format', async () => {
    runs.add()
    play('run_1')
    const some = await open('/ws/runs/run_1?after=10&format=blocks')
    await some.closed
    expect(some.got.map(({ type }) => type)).toEqual(['snapshot', 'model_call', 'status', 'completed'])
    const none = await open('/ws/runs/run_1?after=end')
    expect([(await none.closed).code, none.got]).toEqual([1000, []])
  })

  test.each([
    ['/ws/runs/run_1', 'bob', 'not_found'],
    ['/ws/runs/run_7', 'ann', 'not_found'],
    ['/ws/runs/run_1?format=xml', 'ann', 'validation_failed'],
  ])('%s of %s is %s', async (path, as, code) => {
    runs.add()
    const { got, closed } = await open(path, as)
    expect(await closed).toEqual({ code: 1008, reason: code })
    expect(got).toEqual([{ type: 'error', code, message: expect.any(String), requestId: expect.any(String) }])
  })

  describe('a peer that does not read', () => {
    const enough = 10_000
    async function openIdle(): Promise<Socket> {
      waits = ahead = 0
      runs.add()
      for (let n = 0; n < enough; n++) runs.tell('run_1', { type: 'delta', text: 'x'.repeat(10_000) })
      runs.end('run_1', 'completed')
      const { hostname, port } = new URL(gateway.url as string)
      const head = ['GET /ws/runs/run_1 HTTP/1.1', `Host: ${hostname}:${port}`, 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13']
      const socket = connect(Number(port), hostname).pause()
      socket.write(`${[...head, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Authorization: Bearer ann'].join('\r\n')}\r\n\r\n`)
      await until(() => waits > 3)
      expect(runs.taken).toBeLessThan(enough / 2)
      return socket
    }

    test('is waited for, and gets the rest when it reads', async () => {
      const socket = await openIdle()
      socket.resume()
      await until(() => runs.watchers === 0)
      expect(runs.taken).toBe(enough + 1)
      socket.destroy()
    })

    test('is given up after half a minute', async () => {
      const socket = await openIdle()
      ahead = 31_000
      await until(() => runs.watchers === 0)
      expect(runs.taken).toBeLessThan(enough / 2)
      socket.destroy()
    })
  })

  test('a client that leaves is no longer waited for; one whose credential is revoked is closed with 4001', async () => {
    runs.add()
    const { socket } = await open('/ws/runs/run_1')
    await until(() => runs.watchers === 1)
    socket.close()
    await until(() => runs.watchers === 0)
    const { closed } = await open('/ws/runs/run_1')
    await until(() => runs.watchers === 1)
    revoke('ann')
    expect((await closed).code).toBe(4001)
    await until(() => runs.watchers === 0)
  })
})

/** Runs a command as the CLI does; gives its exit code and what it wrote. */
async function cli(name: string, args: CommandContext['args'] = {}, { json = false, signal = new AbortController().signal } = {}) {
  const command = commands.commands?.[name] as Command
  let out = ''
  const notes: string[] = []
  const write = spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text
    return true
  })
  const context: CommandContext = {
    ...{ args, json, signal, note: (text) => notes.push(text) },
    fetch: (path, init) => gateway.fetch(path, { ...init, as: 'ann' }),
    async request(method, path, body) {
      const answer = await gateway.json(path, { method, body, as: 'ann' })
      if (answer.status >= 400) throw new GatewayError(answer.body.error.code, answer.body.error.message)
      return answer.body
    },
    print(value, text) {
      out += `${json || text === undefined ? JSON.stringify(value) : text}\n`
    },
    ...{ plan: () => Promise.reject(new Error('no plan')), inspect: () => Promise.reject(new Error('no plugin')) },
  }
  try {
    return { code: (await command.run?.(context)) ?? 0, out, notes }
  } finally {
    write.mockRestore()
  }
}

describe('portico runs', () => {
  test('watch shows the text as it comes, tools with their state, and what decides an approval', async () => {
    runs.add()
    play('run_1')
    const { code, out } = await cli('watch', { id: 'run_1' })
    expect(code).toBe(0)
    expect(out).toBe(
      [
        ...['run_1 is completed.', '· working', 'Let me see.', '→ read_file {"path":"notes.md"}', '  50 % reading', '✓ read_file done'],
        ...['? May write_mail be called?', '  Decide: portico approvals approve apr_tool', '  or:     portico approvals deny apr_tool'],
        ...['? Which colour?', '  Answer it: portico approvals answer apr_question "…"'],
        ...['· working', 'A l', '(begun anew)', '# Notes', 'completed (3 steps, 15 tokens)', ''],
      ].join('\n'),
    )
  })

  test('watch --json prints the frames as lines', async () => {
    runs.add()
    play('run_1')
    const { code, out } = await cli('watch', { id: 'run_1' }, { json: true })
    const frames = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect([code, frames.length, frames[0].type, frames.at(-1).type]).toEqual([0, 16, 'snapshot', 'completed'])
  })

  test.each([
    ['failed', { error: { code: 'max_steps', message: 'It did not come to an end.' } }, 'failed: It did not come to an end. (0 steps, 0 tokens)'],
    ['rejected', {}, '· rejected: Ann did not want the files.'],
    ['cancelled', {}, '· cancelled: Ann did not want the files.'],
  ] as const)('watch of a run that is %s exits with 1 and says why', async (state, fields, line) => {
    runs.add()
    runs.entry('run_1', state, state === 'failed' ? {} : { reason: 'Ann did not want the files.' })
    runs.end('run_1', state, fields)
    const { code, out } = await cli('watch', { id: 'run_1' })
    expect([code, out.split('\n')]).toEqual([1, expect.arrayContaining([line])])
  })

  test('watch comes again when the connection ends, and repeats nothing', async () => {
    runs.add()
    runs.tell('run_1', { type: 'delta', text: 'one ' })
    let connections = 0
    const { fetch } = gateway
    const broken = spyOn(gateway, 'fetch').mockImplementation(async (path, init) => {
      const response = await fetch(path, init)
      if (++connections > 1 || !response.body) return response
      // Ends after three chunks: retry, snapshot, the first delta.
      let chunks = 0
      const cut = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          controller.enqueue(chunk)
          if (new TextDecoder().decode(chunk).includes('one ') || ++chunks > 3) controller.terminate()
        },
      })
      queueMicrotask(() => {
        runs.tell('run_1', { type: 'delta', text: 'two' })
        runs.end('run_1', 'completed')
      })
      return new Response(response.body.pipeThrough(cut), response)
    })
    const { code, out, notes } = await cli('watch', { id: 'run_1' })
    broken.mockRestore()
    expect([code, connections]).toEqual([0, 2])
    expect(out.replaceAll('\n', ' ')).toMatch(/^run_1 is running\. one +two completed/)
    expect(notes).toEqual(['The stream ended before the run; waiting for the gateway.'])
  })

  test('watch ends at Ctrl-C and leaves the run alone; an unknown run is an error', async () => {
    runs.add()
    const interrupt = new AbortController()
    const watching = cli('watch', { id: 'run_1' }, { signal: interrupt.signal })
    await until(() => runs.watchers === 1)
    interrupt.abort()
    expect(await watching).toMatchObject({ code: 1, notes: [expect.stringContaining('run_1 goes on')] })
    expect(runs.calls).toEqual([])
    await expect(cli('watch', { id: 'run_9' })).rejects.toMatchObject({ code: 'not_found' })
  })

  test('nothing of an answer steers a terminal', async () => {
    runs.add()
    runs.tell('run_1', { type: 'delta', text: 'a\u001b[2Jb\u0007c\n' })
    runs.end('run_1', 'completed', { result: '\u001b]0;title\u0007' })
    const { isTTY } = process.stdout
    try {
      process.stdout.isTTY = true
      expect((await cli('watch', { id: 'run_1' })).out).toContain('a[2Jbc\n')
      expect((await cli('show', { id: 'run_1' })).out).not.toContain('\u001b')
    } finally {
      process.stdout.isTTY = isTTY
    }
  })

  test('submit watches what it submitted, or with --detach prints its id', async () => {
    const submitting = cli('submit', { message: 'x', agent: 'janitor', session: 'notes', mode: 'steer', model: 'demo/echo' })
    await until(() => runs.watchers === 1)
    expect(runs.asked[0]).toMatchObject({ mode: 'steer', submission: { agent: 'janitor', sessionKey: 'notes', override: { model: 'demo/echo' } } })
    runs.end('run_1', 'completed')
    expect(await submitting).toMatchObject({ code: 0, out: expect.stringContaining('completed') })
    expect(await cli('submit', { message: 'x', detach: true })).toEqual({ code: 0, out: 'run_2\n', notes: [] })
  })

  test('list shows a table, and what to do when there is none', async () => {
    expect((await cli('list')).out).toContain('portico runs submit')
    runs.add({ state: 'rejected', steps: 12 })
    runs.add({ input: { text: `${'long '.repeat(30)}\nend` } })
    const [head, ...rows] = (await cli('list', { status: 'failed', limit: '1', agent: 'default', session: 'notes' })).out.trimEnd().split('\n')
    expect(head).toMatch(/^ID +STATE +AGENT +STEPS +CREATED +ASKED$/)
    expect(rows).toEqual([expect.stringMatching(/^run_1 +rejected +default +12 +2026-01-01T00:00:00.000Z +What is in notes.md\?$/)])
    expect(runs.filters.at(-1)).toMatchObject({ limit: 1, agent: 'default', sessionKey: 'notes' })
    expect(JSON.parse((await cli('list', {}, { json: true })).out)).toMatchObject({ data: [{ run_id: 'run_2' }, { run_id: 'run_1' }] })
  })

  test('show tells all of a run, its files and its answer', async () => {
    runs.add({ parentId: 'run_0' })
    runs.end('run_1', 'failed', { result: 'Half of it.', error: { code: 'max_steps', message: 'No end.' } })
    const { out } = await cli('show', { id: 'run_1' })
    for (const part of [
      'run_1  failed',
      'session  notes',
      'parent   run_0',
      'file     notes.md  +1 -1  applied',
      'error    max_steps: No end.',
      '\n\nHalf of it.\n',
    ])
      expect(out).toContain(part)
    expect(JSON.parse((await cli('show', { id: 'run_1' }, { json: true })).out)).toMatchObject({ run_id: 'run_1', artifacts: [{ path: 'notes.md' }] })
  })

  test('cancel, retry and delete say what they did', async () => {
    runs.add()
    expect((await cli('cancel', { id: 'run_1', reason: 'wrong file' })).out).toBe('Cancelled: run_1, run_child\n')
    expect(runs.calls).toEqual([['cancel', 'run_1', { reason: 'wrong file' }]])
    runs.end('run_1', 'cancelled')
    expect((await cli('cancel', { id: 'run_1' })).out).toBe('run_1 was over already.\n')
    expect((await cli('retry', { id: 'run_1' })).out).toBe('run_2\nWatch it: portico runs watch run_2\n')
    expect((await cli('delete', { id: 'run_1' })).out).toBe('run_1 is deleted.\n')
    expect(runs.calls.at(-1)).toEqual(['delete', 'run_1'])
  })
})

describe('the README', () => {
  const lines = readFileSync(join(import.meta.dir, 'README.md'), 'utf8')
    .matchAll(/^```sh\n([\s\S]*?)^```/gm)
    .flatMap(([, block = '']) => block.trim().split('\n'))
    .filter((line) => !line.startsWith('#'))
    .toArray()

  test.each(lines.filter((line) => line.startsWith('curl ')))('%s', async (line) => {
    runs.add()
    runs.end('run_1', 'completed', { result: 'A list.' })
    const command = line
      .replaceAll('http://127.0.0.1:4766', gateway.url as string)
      .replaceAll('KEY', 'ann')
      .replaceAll('run_0123', 'run_1')
    const child = Bun.spawn(['sh', '-c', command.replace('curl', 'curl --silent --show-error --fail')], { stderr: 'pipe' })
    const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toContain('"run_id":"run_')
  })

  test.each(lines.filter((line) => line.startsWith('portico ')))('%s', async (line) => {
    runs.endsAtOnce = true
    const submitted = await runs.submit({ principal: principals.ann as Principal, input: { text: 'x' } })
    const [, , name = '', ...words] = line
      .replace(/ *#.*/, '')
      .replace('run_0123', submitted.id)
      .matchAll(/"([^"]*)"|\S+/g)
      .map(([word, quoted]) => quoted ?? word)
    const known = commands.commands?.[name]?.args ?? {}
    const args: Record<string, string | boolean> = {}
    while (words.length > 0) {
      const word = words.shift() as string
      const flag = word.startsWith('--') ? word.slice(2) : Object.keys(known).find((each) => known[each]?.type === 'positional')
      expect(Object.keys(known)).toContain(flag as string)
      args[flag as string] = !word.startsWith('--') ? word : known[flag as string]?.type === 'boolean' || (words.shift() as string)
    }
    expect((await cli(name, args)).code).toBe(0)
  })

  test('shows both', () => expect(lines.length).toBeGreaterThan(8))
})

describe('blocks', () => {
  test.each([
    ['', []],
    ['one\ntwo\n\n\nthree', ['paragraph one\ntwo', 'paragraph three']],
    ['# A\n###### B\n####### no', ['header1 A', 'header6 B', 'paragraph ####### no']],
    ['- a\n* b\n+ c\n1. d\n  2) e', ['list_item a', 'list_item b', 'list_item c', 'list_item d', 'list_item e']],
    ['text\n- item\ntext', ['paragraph text', 'list_item item', 'paragraph text']],
    ['```ts title\nconst x = 1\n\n# no header\n```\nafter', ['code_block(ts) const x = 1\n\n# no header', 'paragraph after']],
    ['~~~~\n~~~\n```\n~~~~~\n', ['code_block(null) ~~~\n```']],
    ['```\nnever closed', ['code_block(null) never closed']],
    ['a\r\nb\r\n\r\nc', ['paragraph a\nb', 'paragraph c']],
    ['-not an item\n#not a header', ['paragraph -not an item\n#not a header']],
  ])('of %j', (text, expected) => {
    const shown = toBlocks(text).map(({ type, level, language, content }) => `${type}${level ?? ''}${language === undefined ? '' : `(${language})`} ${content}`)
    expect(shown).toEqual(expected)
  })

  test('are cut in one pass, however long the text', () => {
    const started = performance.now()
    for (const text of [' '.repeat(2_000_000), '`'.repeat(2_000_000), '#'.repeat(2_000_000), '- '.repeat(1_000_000), '1'.repeat(2_000_000)]) toBlocks(text)
    expect(performance.now() - started).toBeLessThan(2_000)
  })
})
