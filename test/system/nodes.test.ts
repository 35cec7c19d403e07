/** Two gateways, one on Bun and one on Deno, as real processes on one PostgreSQL. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type GatewayProcess, type RuntimeName, runPortico, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import { readSse } from '../fixtures/sse-reader.ts'

const emitter = fileURLToPath(new URL('../fixtures/plugins/emitter.ts', import.meta.url))
const stream = '/api/events?types=emitter:*'
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const json = { 'content-type': 'application/json' }

let postgres: TestPostgres
let database: string
let root: string
let nodes: Record<RuntimeName, GatewayProcess>
const started: GatewayProcess[] = []

async function start(runtime: RuntimeName, name: string = runtime): Promise<GatewayProcess> {
  const config = `plugins = [${JSON.stringify(emitter)}]\n[database]\nurl = "${database}"\n[provider-demo]\nenabled = false\n`
  const gateway = await spawnGateway({ runtime, config, dataDir: join(root, name) })
  started.push(gateway)
  return gateway
}

beforeAll(async () => {
  postgres = await startPostgres()
  database = await postgres.newDatabase()
  root = await mkdtemp(join(tmpdir(), 'portico-nodes-'))
  // Both at once on an empty database: each migration is applied by one of them.
  const [bun, deno] = await Promise.all([start('bun'), start('deno')])
  nodes = { bun, deno }
}, 60_000)
afterAll(async () => {
  await Promise.all(started.map((gateway) => gateway.stop()))
  await postgres?.stop()
  await rm(root, { recursive: true, force: true })
}, 30_000)

async function emit(gateway: GatewayProcess, from: number, to: number): Promise<void> {
  const response = await gateway.fetch('/emit', { method: 'POST', headers: json, body: JSON.stringify({ from, to }) })
  if (!response.ok) throw new Error(await response.text())
}

async function listen(gateway: GatewayProcess, since?: string) {
  const reader = readSse(await gateway.fetch(stream, { headers: since === undefined ? {} : { 'last-event-id': since } }))
  await reader.waitFor('ready')
  const said = () => reader.events.filter(({ event }) => event === 'emitter:said')
  return { ...reader, reader, ids: () => said().map(({ id }) => id), numbers: () => said().map(({ data }) => JSON.parse(data).n as number) }
}

const saying = (n: number) => (event: { data: string }) => JSON.parse(event.data).n === n
const order = (id: string) => {
  const [ms = '0', n = '0'] = id.split('-')
  return BigInt(ms) * 1_000_000n + BigInt(n)
}
const rising = (ids: readonly string[]) => ids.every((id, i) => i === 0 || order(ids[i - 1] as string) < order(id))

describe('two gateways on one PostgreSQL', () => {
  test('append in one rising order, and both show everything once, in that order', async () => {
    const [onBun, onDeno] = [await listen(nodes.bun), await listen(nodes.deno)]
    await Promise.all([emit(nodes.bun, 1, 100), emit(nodes.deno, 101, 200), emit(nodes.bun, 201, 250), emit(nodes.deno, 251, 300)])
    await emit(nodes.bun, 301, 301)
    for (const { waitFor } of [onBun, onDeno]) await waitFor('emitter:said', saying(301))
    expect(onBun.ids()).toEqual(onDeno.ids())
    expect(rising(onBun.ids())).toBe(true)
    expect([...onBun.numbers()].sort((a, b) => a - b)).toEqual(range(1, 301))
    // What one node was told in sequence is in the log in that sequence.
    for (const [from, to] of [
      [1, 100],
      [101, 200],
    ] as const)
      expect(onDeno.numbers().filter((n) => n >= from && n <= to)).toEqual(range(from, to))
    await Promise.all([onBun.close(), onDeno.close()])
  }, 30_000)

  test('a reader that loses its node resumes on the other', async () => {
    const [first, second] = [await listen(nodes.bun), await listen(nodes.deno)]
    await emit(nodes.deno, 401, 410)
    await first.waitFor('emitter:said', saying(405))
    const at = first.reader.events.find(saying(405) as never)?.id as string
    await first.close()
    await emit(nodes.bun, 411, 420)
    const resumed = await listen(nodes.deno, at)
    await resumed.waitFor('emitter:said', saying(420))
    expect(resumed.numbers()).toEqual(range(406, 420))
    await Promise.all([second.close(), resumed.close()])
  }, 30_000)

  test.each([
    ['bun', 'deno'],
    ['deno', 'bun'],
  ] as const)(
    'a key revoked or rotated on %s is dead on %s within a second, and its streams there end',
    async (here, there) => {
      const create = async () =>
        (await (await nodes[here].fetch('/api/keys', { method: 'POST', headers: json, body: '{}' })).json()) as { id: string; key: string }
      for (const kill of [
        (id: string) => nodes[here].fetch(`/api/keys/${id}`, { method: 'DELETE' }),
        (id: string) => nodes[here].fetch(`/api/keys/${id}/rotate`, { method: 'POST' }),
      ]) {
        const { id, key } = await create()
        const headers = { authorization: `Bearer ${key}` }
        const call = async () => (await fetch(`${nodes[there].url}/api/v1/auth/whoami`, { headers })).status
        expect(await call()).toBe(200)
        const reader = readSse(await fetch(`${nodes[there].url}${stream}`, { headers }))
        await reader.waitFor('ready')
        const began = performance.now()
        expect((await kill(id)).ok).toBe(true)
        await Promise.race([reader.ended, Bun.sleep(3_000)])
        expect(performance.now() - began).toBeLessThan(1_000)
        expect(await call()).toBe(401)
      }
    },
    30_000,
  )

  test('say what they run on, and keep the address of the database to themselves', async () => {
    const run = JSON.parse(readFileSync(join(nodes.bun.dataDir, 'run.json'), 'utf8'))
    expect(run).toEqual({ url: nodes.bun.url, pid: nodes.bun.pid, startedAt: expect.stringMatching(/^\d{4}-.*Z$/), socket: null, certificate: null })
    expect(await (await nodes.deno.fetch('/api/config')).text()).not.toContain(database)
    for (const { stdout, stderr } of started) expect(stdout + stderr).not.toContain(database)
    const { code, stdout } = await runPortico(['status', '--json', '--data-dir', nodes.deno.dataDir], { runtime: 'deno' })
    expect({ code, ...JSON.parse(stdout) }).toMatchObject({ code: 0, running: true, url: nodes.deno.url, components: { database: 'ok' } })
  }, 30_000)

  test('handle each event of a durable subscription on one of them; after kill -9 of that one the other goes on where it stopped', async () => {
    const seen = async (gateway: GatewayProcess) => ((await (await gateway.fetch('/emit/seen')).json()) as { seen: number[] }).seen.filter((n) => n > 500)
    await emit(nodes.bun, 501, 540)
    const until = async (what: string, ms: number, holds: () => Promise<boolean>) => {
      for (const deadline = Date.now() + ms; !(await holds()); await Bun.sleep(50))
        if (Date.now() > deadline) throw new Error(`${what} took more than ${ms} ms`)
    }
    await until('the first forty', 10_000, async () => (await Promise.all([seen(nodes.bun), seen(nodes.deno)])).flat().includes(540))
    const [onBun, onDeno] = await Promise.all([seen(nodes.bun), seen(nodes.deno)])
    expect([...onBun, ...onDeno].sort((a, b) => a - b)).toEqual(range(501, 540))
    const [holder, other] = onBun.length > 0 ? [nodes.bun, nodes.deno] : [nodes.deno, nodes.bun]
    // Its cursor is saved every 200 ms; what came before is not handled again.
    await Bun.sleep(500)
    await holder.kill9()
    await emit(other, 541, 560)
    await until('going on', 15_000, async () => (await seen(other)).includes(560))
    expect((await seen(other)).slice(-20)).toEqual(range(541, 560))
    expect(await seen(other)).toEqual(range((await seen(other))[0] as number, 560))
  }, 40_000)

  test('a node that starts after the log was trimmed says so first, over HTTP, and goes on with what is there', async () => {
    const client = new pg.Client(database)
    await client.connect()
    try {
      const { rows } = await client.query(`select event_log_bound($1, 3, true) as bound`, [86_400_000])
      for (let removed = 1; removed > 0; ) removed = (await client.query('select event_log_trim($1) as removed', [rows[0].bound])).rows[0].removed
      expect((await client.query('select from event_log_events')).rowCount).toBeLessThanOrEqual(4)
    } finally {
      await client.end()
    }
    for (const runtime of ['bun', 'deno'] as const) {
      const late = await start(runtime, `late-${runtime}`)
      const reader = readSse(await late.fetch('/api/events', { headers: { 'last-event-id': '1-0' } }))
      const gap = await reader.waitFor('gap')
      await emit(late, 601, 601)
      await reader.waitFor('emitter:said', saying(601))
      expect(reader.events.slice(0, 2).map(({ event }) => event)).toEqual(['ready', 'gap'])
      const [, , next] = reader.events
      expect(JSON.parse(gap.data)).toEqual({ oldest: next?.id as string })
      expect(rising(reader.events.slice(2).map(({ id }) => id))).toBe(true)
      await reader.close()
      expect(await late.stop()).toBe(0)
    }
  }, 60_000)
})
