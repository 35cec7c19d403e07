/** A plugin of the benchmark: what runs cost, beside the same without them. Each route measures one side, and answers its figure. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { streamText } from 'ai'
import { PgBoss } from 'pg-boss'
import { definePlugin, guard, type Principal, rpc, sql, t } from 'portico'
import { models as modelsRef } from 'portico/plugins/models'
import { budgetKeepers, runs as runsRef } from 'portico/plugins/runs'

const durationMs = 2_000
const writers = 10
/** A worker of pg-boss that is told of a job late polls after half a second: more of them take minutes. */
const singles = 20
const streams = 100
const turns = 40

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
const p99 = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? 0

export default definePlugin({
  id: 'runs-bench',
  version: '1.0.0',
  api: 1,
  summary: 'Measures runs',
  config: t.Object({ upstream: t.String(), databaseUrl: t.Optional(t.String()) }),
  requires: { models: modelsRef, runs: runsRef },
  adds: [budgetKeepers],
  paths: ['/runs-bench'],
  setup(ctx) {
    const { models, runs } = ctx.services
    const principal: Principal = { id: 'bench', kind: 'user', scopes: ['rpc'], groups: [], via: 'bench' }
    let onModel: ((runId: string) => void) | undefined
    ctx.add(budgetKeepers, {
      async reserve({ runId }) {
        onModel?.(runId)
        return { settle: async () => undefined, release: async () => undefined }
      },
    })
    const bare = createOpenAICompatible({ name: 'bench', baseURL: ctx.config.upstream, includeUsage: true }).chatModel('mock')
    /** The demo model, by the same way through the service as a run has it, and nothing else. */
    const viaModels = async (_: unknown, { body, signal }: RequestInit = {}) => {
      const request = { provider: 'demo', model: 'echo', body: new TextEncoder().encode(String(body)), signal: signal ?? new AbortController().signal }
      const call = await models.call('chat', request)
      return new Response(call.body as BodyInit, { status: call.status, headers: call.headers })
    }
    const demo = createOpenAICompatible({ name: 'demo', baseURL: 'http://models.invalid/v1', includeUsage: true, fetch: viaModels as typeof fetch }).chatModel(
      'echo',
    )
    let n = 0

    /** The rows of a submission, as plain SQL in one transaction: session, run, message, entry, turn. */
    const write = () =>
      ctx.db.transaction(async (tx) => {
        const id = `bare_${++n}`
        await tx.execute(sql`insert into runs_sessions (id, principal, key, agent, title, model, channel, created_at, updated_at)
          values (${`s_${id}`}, 'bare', ${id}, 'default', 'x', 'bench/mock', 'api', now(), now()) on conflict do nothing`)
        await tx.execute(sql`insert into runs_runs (id, principal_id, principal, session_id, depth, agent, spec, input, state, priority, start_at, is_interactive, model, metadata, created_at, ended_at)
          values (${id}, 'bare', '{}', ${`s_${id}`}, 0, 'default', '{}', '{"text":"x"}', 'completed', 0, now(), false, 'bench/mock', '{}', now(), now())`)
        await tx.execute(sql`insert into runs_shares (principal_id) values ('bare') on conflict do nothing`)
        await tx.execute(sql`insert into runs_messages (session_id, run_id, role, text, created_at) values (${`s_${id}`}, ${id}, 'user', 'x', now())`)
        await tx.execute(sql`insert into runs_entries (run_id, seq, key, type, data, at) values (${id}, 1, 'queued', 'queued', '{}', now())`)
        return id
      })
    /** What a turn writes after its call: answer, message, session, end. */
    const finish = async (id: string, text: string) => {
      await ctx.db.transaction(async (tx) => {
        await tx.execute(sql`update runs_runs set last_seq = 2 where id = ${id}`)
        await tx.execute(
          sql`insert into runs_entries (run_id, seq, key, type, data, at) values (${id}, 2, 'model_call:1', 'model_call', ${JSON.stringify({ text })}, now())`,
        )
      })
      await ctx.db.transaction(async (tx) => {
        await tx.execute(sql`update runs_runs set last_seq = 3, result = ${text} where id = ${id}`)
        await tx.execute(sql`insert into runs_entries (run_id, seq, key, type, data, at) values (${id}, 3, 'end', 'completed', '{}', now())`)
        await tx.execute(sql`insert into runs_messages (session_id, run_id, role, text, created_at) values (${`s_${id}`}, ${id}, 'assistant', ${text}, now())`)
        await tx.execute(sql`update runs_sessions set updated_at = now() where id = ${`s_${id}`}`)
      })
    }

    async function rate(one: (who: string) => Promise<unknown>): Promise<number> {
      const at = performance.now()
      let count = 0
      // Each writer is somebody else, and so is that of the next round: nobody has more runs in the queue than a principal may have.
      const round = ++n
      const writer = async (index: number) => {
        while (performance.now() - at < durationMs) {
          await one(`writer-${round}-${index}`)
          count++
        }
      }
      await Promise.all(Array.from({ length: writers }, (_, index) => writer(index)))
      return (count * 1_000) / (performance.now() - at)
    }

    const submit = (who = principal.id) => runs.submit({ principal: { ...principal, id: who }, input: { text: 'x' }, override: { model: 'bench/mock' } })
    const interactive = async (text: string, model = 'bench/mock') => {
      const leaving = new AbortController()
      const run = await runs.submit({ principal, input: { text }, override: { model }, interactive: { signal: leaving.signal } })
      let said = ''
      for await (const update of runs.watch(run.id, principal, { signal: leaving.signal })) if (update.type === 'delta') said += update.text
      return said
    }
    const direct = async (prompt: string, model = bare) => {
      let said = ''
      for await (const part of streamText({ model, prompt, maxRetries: 0 }).textStream) said += part
      return said
    }

    /** How late a timer of 2 ms comes while the streams run, ms. */
    async function lag(one: (text: string) => Promise<unknown>): Promise<number> {
      const late: number[] = []
      let due = performance.now() + 2
      const timer = setInterval(() => {
        const now = performance.now()
        late.push(Math.max(0.01, now - due))
        due = now + 2
      }, 2)
      await Promise.all(Array.from({ length: streams }, (_, index) => one(`stream ${index}`)))
      clearInterval(timer)
      return p99(late)
    }

    async function started(): Promise<number> {
      const times: number[] = []
      for (let index = 0; index < singles; index++) {
        const { promise, resolve } = Promise.withResolvers<void>()
        onModel = () => resolve()
        const at = performance.now()
        const run = await submit()
        await promise
        times.push(performance.now() - at)
        onModel = undefined
        for await (const update of runs.watch(run.id, principal, { signal: ctx.signal })) if (update.type === 'end') break
      }
      return median(times)
    }

    let boss: PgBoss | undefined
    async function boss_(): Promise<number> {
      if (!boss) {
        boss = new PgBoss({ connectionString: ctx.config.databaseUrl ?? '', useListenNotify: true } as never)
        boss.on('error', () => undefined)
        await boss.start()
        await boss.createQueue('bench', { notify: true } as never)
        ctx.defer(() => boss?.stop({ graceful: false } as never) as Promise<void>)
        await boss.work<{ n: number }>('bench', { batchSize: 2, pollingIntervalSeconds: 0.5 }, async (jobs) => {
          for (const { data } of jobs) done.get(data.n)?.()
        })
      }
      const times: number[] = []
      for (let index = 0; index < singles; index++) {
        const own = ++n
        const { promise, resolve } = Promise.withResolvers<void>()
        done.set(own, resolve)
        const at = performance.now()
        await boss.send('bench', { n: own })
        await promise
        times.push(performance.now() - at)
        done.delete(own)
      }
      return median(times)
    }
    const done = new Map<number, () => void>()

    const each = async (one: () => Promise<unknown>) => {
      const at = performance.now()
      for (let index = 0; index < turns; index++) await one()
      return (performance.now() - at) / turns
    }
    const sides: Readonly<Record<string, () => Promise<number>>> = {
      'submit-bare': () => rate(write),
      submit: () => rate(submit),
      'started-bare': boss_,
      started,
      'lag-bare': () => lag(direct),
      lag: () => lag(interactive),
      'turn-bare': () => each(async () => finish(await write(), await direct('Say a word', demo))),
      turn: () => each(() => interactive('Say a word', 'demo/echo')),
    }
    return {
      routes: [
        guard(
          rpc,
          (app) =>
            app.post('/runs-bench/:side', async ({ params }) => ({ rate: await (sides[params.side] as () => Promise<number>)() }), {
              params: t.Object({ side: t.String() }),
            }),
          {
            deadline: 120_000,
          },
        ),
      ],
    }
  },
})
