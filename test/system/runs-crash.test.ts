/** Ends the gateway's process at each point of a run, and starts it again: each run ends right, what was done is done once, who follows misses and repeats nothing. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readSse } from 'portico/plugins/events'
import { startAgentModel } from '../fixtures/agent-model.ts'
import { type GatewayProcess, type RuntimeName, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import { until } from '../fixtures/until.ts'

const plugin = new URL('../fixtures/plugins/runs-probe.ts', import.meta.url).pathname
let root: string
let postgres: TestPostgres
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-runs-'))
  postgres = await startPostgres()
}, 60_000)
afterAll(async () => {
  await postgres.stop()
  await rm(root, { recursive: true, force: true })
})

/** A gateway that is started again on the same data, as often as it ends. */
async function startHouse(runtime: RuntimeName, database: 'pglite' | 'postgres') {
  const folder = await mkdtemp(join(root, `${runtime}-`))
  const workspace = join(folder, 'workspace')
  const model = startAgentModel({ wordDelay: 2 })
  const url = database === 'postgres' ? `[database]\nurl = "${await postgres.newDatabase()}"\n` : ''
  const config = `plugins = ["${plugin}"]
[runs]
lease = 1000
model = "house/agent"
tools = ["*"]
[workspace]
root = "${workspace}"
[runs-probe]
folder = "${folder}"
[discovery]
enabled = false
[models.providers.house]
type = "openai-compatible"
baseUrl = "${model.url}"
${url}`
  const dataDir = join(folder, 'data')
  let gateway = await spawnGateway({ runtime, config, dataDir })
  let isBack = false
  const house = {
    model,
    workspace,
    get gateway(): GatewayProcess {
      return gateway
    },
    /** Once it has ended, unless who submitted had to do it. */
    async restart(): Promise<void> {
      if (isBack) {
        isBack = false
        return
      }
      await gateway.exited
      gateway = await spawnGateway({ runtime, config, dataDir })
    },
    endAt: (point: string) => writeFile(join(folder, 'end-at'), point),
    async effects(runId: string): Promise<number> {
      const text = await readFile(join(folder, 'effects'), 'utf8').catch(() => '')
      return text.split('\n').filter((line) => line.startsWith(runId)).length
    },
    async json<T = any>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
      const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }
      return (await (await gateway.fetch(path, init)).json()) as T
    },
    /** A run may be at work, and the process dead, before who submitted it has his answer: he sends it again, with the same key. */
    async submit(message: string): Promise<string> {
      const key = { 'idempotency-key': crypto.randomUUID() }
      try {
        return (await house.json('/v1/runs', { message }, key)).run_id
      } catch {
        await house.restart()
        isBack = true
        return (await house.json('/v1/runs', { message }, key)).run_id
      }
    },
    async stop(): Promise<void> {
      await gateway.stop()
      await model.stop()
    },
  }
  return house
}
type House = Awaited<ReturnType<typeof startHouse>>

/** Follows a run over every end of the process; gives the numbers of its entries, and its text. */
function follow(house: House, runId: string) {
  const seen = { seqs: [] as number[], text: '', status: '' }
  let last: string | undefined
  const done = (async () => {
    for (const end = Date.now() + 60_000; seen.status === '' && Date.now() < end; ) {
      try {
        const response = await house.gateway.fetch(`/v1/runs/${runId}/stream`, { headers: last === undefined ? {} : { 'last-event-id': last } })
        if (!response.ok) throw new Error(`${response.status}`)
        for await (const { data, id } of readSse(response.body as ReadableStream<Uint8Array>)) {
          if (data === '') continue
          const frame = JSON.parse(data)
          if (id) last = id
          if (frame.type === 'delta') seen.text = frame.restart ? frame.delta : seen.text + frame.delta
          if (frame.type === 'model_call') seen.text = ''
          if (frame.seq !== undefined) seen.seqs.push(frame.seq)
          if (['completed', 'failed', 'cancelled'].includes(frame.type)) seen.status = frame.state
        }
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    return seen
  })()
  return { seen, done }
}

const pendingOf = async (house: House, runId: string) => (await house.json(`/api/approvals?state=pending&runId=${runId}`)).approvals as any[]

/** Waits for an open approval of the run, over ends of the process. */
async function approvalOf(house: House, runId: string) {
  let found: any
  await until(async () => {
    ;[found] = await pendingOf(house, runId).catch(() => [])
    return found !== undefined
  })
  return found
}

/**
 * What hears of a point by its event may hear late: the tool is at work then, and somebody is asked. Who looks knows whether it had its effect, and decides so that
 * it has it once.
 */
async function decideRepeats(house: House, runId: string, seen: { status: string }): Promise<void> {
  await until(
    async () => {
      for (const { id, kind } of await pendingOf(house, runId))
        if (kind === 'repeat') await ((await house.effects(runId)) > 0 ? deny(house, id) : approve(house, id))
      return seen.status !== ''
    },
    { ms: 40_000 },
  )
}

const deny = (house: House, id: string) => house.json(`/api/approvals/${id}/deny`, { comment: 'once is enough' })
const approve = (house: House, id: string) => house.json(`/api/approvals/${id}/approve`, {})

// All of them on Bun with the embedded database; elsewhere those in which runtime and database have a part.
describe.each([
  ['bun', 'pglite', true],
  ['bun', 'postgres', false],
  ['deno', 'pglite', false],
] as const)('on %s with %s', (runtime, database, isWhole) => {
  let house: House
  beforeAll(async () => {
    house = await startHouse(runtime, database)
  }, 60_000)
  afterAll(() => house?.stop())

  async function endsRight(runId: string, following: ReturnType<typeof follow>, effects: number): Promise<any> {
    const seen = await following.done
    const run = await house.json(`/v1/runs/${runId}`)
    const { events } = await house.json(`/v1/runs/${runId}/events`)
    expect({ status: seen.status, error: run.error }).toEqual({ status: 'completed', error: null })
    expect(await house.effects(runId)).toBe(effects)
    // Every entry once, in order.
    expect(seen.seqs).toEqual(events.map(({ seq }: { seq: number }) => seq))
    return { run, events }
  }

  const points = ['after the model’s answer, before it is written', 'between model and tool', 'at settling, before the commit']
  const more = ['at the begin', 'before the model call', 'after the result of a tool', 'after settling']

  test.each(isWhole ? [...points, ...more] : points)(
    'kill -9 %s: the tool ran once',
    async (point) => {
      await house.endAt(point)
      const runId = await house.submit(`call effect {"text":"x"}\n${point}`)
      const following = follow(house, runId)
      await house.restart()
      await decideRepeats(house, runId, following.seen)
      const { run, events } = await endsRight(runId, following, 1)
      expect(run.result).toBe(`said: ${point}`)
      const calls = events.filter(({ type }: { type: string }) => type === 'model_call')
      expect(calls).toHaveLength(2)
    },
    60_000,
  )

  test('kill -9 during the model call: it is made again, and who follows is told that its text begins anew', async () => {
    const words = 'a long answer of many words that comes slowly '.repeat(8).trim()
    const runId = await house.submit(words)
    const following = follow(house, runId)
    await until(() => following.seen.text.length > 20)
    await house.gateway.kill9()
    await house.restart()
    const { run } = await endsRight(runId, following, 0)
    expect(run.result).toBe(`said: ${words}`)
    expect(house.model.calls.get(words)).toBe(2)
  }, 60_000)

  if (isWhole) {
    test('kill -9 before the effect of a tool that is not idempotent: it may have happened, so somebody is asked', async () => {
      await house.endAt('before the effect of a tool')
      const runId = await house.submit('call effect {"text":"x"}\nmaybe')
      const following = follow(house, runId)
      await house.restart()
      const approval = await approvalOf(house, runId)
      expect([approval.kind, await house.effects(runId)]).toEqual(['repeat', 0])
      await approve(house, approval.id)
      await endsRight(runId, following, 1)
    }, 60_000)
  }

  test('kill -9 after the effect, before its result is stored: denied, it is not repeated, and the model is told', async () => {
    await house.endAt('after the effect of a tool')
    const runId = await house.submit('call effect {"text":"x"}\ntwice?')
    const following = follow(house, runId)
    await house.restart()
    const approval = await approvalOf(house, runId)
    expect([approval.kind, await house.effects(runId)]).toEqual(['repeat', 1])
    await deny(house, approval.id)
    const { events } = await endsRight(runId, following, 1)
    expect(events.find(({ type }: { type: string }) => type === 'tool_result')).toMatchObject({ is_error: true })
  }, 60_000)

  if (isWhole) {
    test('kill -9 after the effect of an idempotent tool: it is simply repeated', async () => {
      await house.endAt('after the effect of a tool')
      const runId = await house.submit('call effect_again {"text":"x"}\nagain')
      const following = follow(house, runId)
      await house.restart()
      await endsRight(runId, following, 2)
    }, 60_000)
  }

  test('kill -9 while it waits for approval, and in the decision: decided once, done once', async () => {
    const runId = await house.submit('call effect_gated {"text":"x"}\ngated')
    const following = follow(house, runId)
    const { id } = await approvalOf(house, runId)
    await house.gateway.kill9()
    await house.restart()
    expect((await house.json(`/v1/runs/${runId}`)).status).toBe('awaiting_approval')
    await house.endAt('in the decision of an approval')
    await approve(house, id).catch(() => undefined)
    await house.restart()
    // It was killed within the transaction: nothing was decided.
    expect((await pendingOf(house, runId)).map((each) => each.id)).toEqual([id])
    await approve(house, id)
    await endsRight(runId, following, 1)
  }, 60_000)

  if (isWhole) {
    test('kill -9 while artifacts are applied: all of them are there, none by half', async () => {
      const names = Array.from({ length: 8 }, (_, n) => `${runtime}-${database}-${n}.txt`)
      const content = 'x'.repeat(50_000)
      const calls = names.map((path) => `call write_file ${JSON.stringify({ path, content })}`).join('\n')
      const runId = await house.submit(`${calls}\nfiles`)
      const following = follow(house, runId)
      const approval = await approvalOf(house, runId)
      expect(approval).toMatchObject({ kind: 'artifacts', title: '8 files' })
      expect(await readdir(house.workspace).catch(() => [])).toEqual([])
      const approving = approve(house, approval.id).catch(() => undefined)
      await until(async () => (await readdir(house.workspace).catch(() => [])).length > 0)
      await house.gateway.kill9()
      await approving
      await house.restart()
      if ((await pendingOf(house, runId)).length > 0) await approve(house, approval.id)
      await endsRight(runId, following, 0)
      for (const name of names) expect((await readFile(join(house.workspace, name), 'utf8')).length).toBe(content.length)
      expect((await readdir(house.workspace)).sort()).toEqual(names.sort())
    }, 60_000)
  }

  test.each(isWhole ? [1, 2, 3, 4, 5, 6] : [7])(
    'kill -9 at a random moment, seed %i',
    async (seed) => {
      // A linear congruential generator: the same moments in each run of the suite.
      const moment = (seed * 1_103_515_245 + 12_345) % 400
      const runId = await house.submit(`call effect_again {"text":"1"}\ncall effect_again {"text":"2"}\nrandom ${seed}`)
      const following = follow(house, runId)
      await new Promise((resolve) => setTimeout(resolve, moment))
      await house.gateway.kill9()
      await house.restart()
      const seen = await following.done
      expect(seen.status).toBe('completed')
      const { events } = await house.json(`/v1/runs/${runId}/events`)
      expect(seen.seqs).toEqual(events.map(({ seq }: { seq: number }) => seq))
      const results = events.filter(({ type }: { type: string }) => type === 'tool_result')
      expect(results.map(({ is_error }: { is_error: boolean }) => is_error)).toEqual([false, false])
      // Begun at most once more than it ended.
      const begun = events.filter(({ type }: { type: string }) => type === 'tool_call')
      expect(begun.length).toBeLessThanOrEqual(3)
      expect(await house.effects(runId)).toBeLessThanOrEqual(begun.length)
    },
    60_000,
  )
})
