/** Two gateways on one PostgreSQL: each run is done by one of them; when that one dies or stands still, by the other. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AgentModel, startAgentModel } from '../fixtures/agent-model.ts'
import { type GatewayProcess, type RuntimeName, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import { until } from '../fixtures/until.ts'

const plugin = new URL('../fixtures/plugins/runs-probe.ts', import.meta.url).pathname

describe.each([
  ['bun', 'bun'],
  ['deno', 'bun'],
] as const)('%s and %s', (...runtimes) => {
  let folder: string
  let postgres: TestPostgres
  let model: AgentModel
  let nodes: GatewayProcess[] = []
  let config: string
  const startNode = (runtime: RuntimeName) => spawnGateway({ runtime, config })
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'portico-nodes-'))
    postgres = await startPostgres()
    model = startAgentModel()
    config = `plugins = ["${plugin}"]
[runs]
lease = 2000
concurrency = 4
model = "house/agent"
tools = ["*"]
[runs-probe]
folder = "${folder}"
[discovery]
enabled = false
[database]
url = "${await postgres.newDatabase()}"
[models.providers.house]
type = "openai-compatible"
baseUrl = "${model.url}"
`
    nodes = [await startNode(runtimes[0])]
    nodes.push(await startNode(runtimes[1]))
  }, 60_000)
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.stop()))
    await model.stop()
    await postgres.stop()
    await rm(folder, { recursive: true, force: true })
  })

  const at = (index: number) => nodes[index] as GatewayProcess
  async function submit(node: GatewayProcess, message: string): Promise<string> {
    const init = { method: 'POST', body: JSON.stringify({ message }), headers: { 'content-type': 'application/json' } }
    return ((await (await node.fetch('/v1/runs', init)).json()) as { run_id: string }).run_id
  }
  const get = async (node: GatewayProcess, id: string) => (await (await node.fetch(`/v1/runs/${id}`)).json()) as any
  const events = async (node: GatewayProcess, id: string) => ((await (await node.fetch(`/v1/runs/${id}/events`)).json()) as any).events as any[]
  const linesOf = async (file: string, id = '') =>
    (await readFile(join(folder, file), 'utf8').catch(() => '')).split('\n').filter((line) => line !== '' && line.startsWith(id))

  test('no run is done twice, whoever took it in', async () => {
    const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => submit(at(n % 2), `call effect {"text":"${n}"}\nrun ${n}`)))
    for (const id of ids) await until(async () => (await get(at(0), id)).status === 'completed', { ms: 30_000 })
    expect((await linesOf('effects')).map((line) => line.split(' ')[0]).sort()).toEqual([...ids].sort())
    for (const id of ids) expect((await events(at(1), id)).filter(({ type }) => type === 'started')).toHaveLength(1)
  }, 60_000)

  test('the runs of one that was killed are gone on with by the other', async () => {
    const ids = await Promise.all(Array.from({ length: 4 }, (_, n) => submit(at(0), `call wait {"text":"after-kill"}\nkilled ${n}`)))
    await until(async () => (await linesOf('waiting')).length >= 4)
    const mine = (await linesOf('waiting')).filter((line) => line.endsWith(` ${at(0).pid}`)).map((line) => line.split(' ')[0] as string)
    expect(mine.length).toBeGreaterThan(0)
    await at(0).kill9()
    const killed = Date.now()
    for (const id of mine) await until(async () => (await linesOf('waiting', id)).length > 1, { ms: 20_000 })
    // A lease of 2 s, looked at each half second.
    expect(Date.now() - killed).toBeLessThan(10_000)
    await writeFile(join(folder, 'after-kill'), '')
    for (const id of ids) await until(async () => (await get(at(1), id)).status === 'completed', { ms: 20_000 })
    nodes[0] = await startNode(runtimes[0])
  }, 90_000)

  test('one that stood still past its lease finds that it has lost its run, and writes nothing more', async () => {
    const id = await submit(at(0), 'call wait {"text":"after-stop"}\nstopped')
    await until(async () => (await linesOf('waiting', id)).length > 0)
    const holder = Number((await linesOf('waiting', id))[0]?.split(' ')[1])
    const other = nodes.find(({ pid }) => pid !== holder) as GatewayProcess
    process.kill(holder, 'SIGSTOP')
    try {
      await until(async () => (await linesOf('waiting', id)).length > 1, { ms: 20_000 })
      await writeFile(join(folder, 'after-stop'), '')
      await until(async () => (await get(other, id)).status === 'completed', { ms: 20_000 })
    } finally {
      process.kill(holder, 'SIGCONT')
    }
    const before = await events(other, id)
    const stopped = nodes.find(({ pid }) => pid === holder) as GatewayProcess
    await until(() => /at work elsewhere, or was ended/.test(stopped.stderr + stopped.stdout), { ms: 20_000 })
    expect(await events(other, id)).toEqual(before)
    expect(before.filter(({ type }) => type === 'tool_result').map(({ result }) => result[0].text)).toEqual([`waited in ${other.pid}`])
  }, 60_000)

  test('cancelling on one ends it on the other', async () => {
    const id = await submit(at(0), 'call wait {"text":"never"}\ncancelled')
    await until(async () => (await linesOf('waiting', id)).length > 0)
    const holder = Number((await linesOf('waiting', id))[0]?.split(' ')[1])
    const other = nodes.find(({ pid }) => pid !== holder) as GatewayProcess
    const cancelled = await (await other.fetch(`/v1/runs/${id}/cancel`, { method: 'POST' })).json()
    expect(cancelled).toMatchObject({ cancelled: true, cancelled_ids: [id] })
    const stopped = nodes.find(({ pid }) => pid === holder) as GatewayProcess
    await until(() => (stopped.stderr + stopped.stdout).split(id).length > 1, { ms: 5_000 })
    expect((await events(other, id)).at(-1).type).toBe('cancelled')
  }, 30_000)
})
