/** Reloads of a real process under load: nobody notices, nothing is left behind. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startLoad } from '../fixtures/load.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { until } from '../fixtures/until.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

const restless = fileURLToPath(new URL('../fixtures/plugins/restless.ts', import.meta.url))
const probe = fileURLToPath(new URL('../fixtures/hostile/probe.ts', import.meta.url))
const json = { 'content-type': 'application/json' }

let upstream: Upstream
beforeAll(async () => {
  upstream = await startUpstream()
})
afterAll(() => upstream.stop())

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  beforeAll(async () => {
    const provider = `[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\nmodels = ["m"]\n`
    gateway = await spawnGateway({ runtime, config: `plugins = ${JSON.stringify([probe, restless])}\n${provider}` })
  }, 60_000)
  afterAll(() => gateway?.stop())

  const patch = async (body: unknown) => {
    const answer = await gateway.fetch('/api/config', { method: 'PATCH', headers: json, body: JSON.stringify(body) })
    return { status: answer.status, body: (await answer.json()) as any }
  }
  const metric = async (name: string) => Number(new RegExp(`^portico_${name} (\\S+)`, 'm').exec(await (await gateway.fetch('/metrics')).text())?.[1])
  const memory = async () => Number(/^process_resident_memory_bytes (\S+)/m.exec(await (await gateway.fetch('/metrics')).text())?.[1]) / 1e6

  test('a model stream in flight finishes on the old code, an event stream ends and resumes without loss', async () => {
    upstream.script({ frameDelayMs: 150 }, { path: '/v1/chat' })
    const chat = gateway.fetch('/v1/chat/completions', {
      method: 'POST',
      headers: json,
      body: JSON.stringify({ model: 'local/m', stream: true, messages: [{ role: 'user', content: 'a b c d' }] }),
    })
    const request = await upstream.waitForRequest()
    const events = readSse(await gateway.fetch('/api/events?types=key:*'))
    await events.waitFor('ready')
    expect((await patch({ events: { onFailure: 'abort' }, models: { aliases: { fast: 'local/m' } } })).status).toBe(200)
    // `models` changed: `openai` was restarted with it, and the stream that the old one carries goes on.
    expect(request.endedAt).toBeUndefined()
    const text = await (await chat).text()
    expect(text).toContain('[DONE]')
    expect((await patch({ events: { onFailure: null } })).status).toBe(200)
    await gateway.fetch('/api/plugins/events/reload', { method: 'POST' })
    await events.ended
    await gateway.fetch('/api/keys', { method: 'POST', headers: json, body: '{"name":"while away"}' })
    const again = readSse(await gateway.fetch('/api/events?types=key:*', { headers: { 'last-event-id': events.lastId } }))
    expect(JSON.parse((await again.waitFor('key:created')).data).name).toBe('while away')
    await again.close()
  })

  test('300 reloads under load: no failed request, and memory, timers, listeners and streams are what they were', async () => {
    const load = startLoad(() => fetch(new URL('/probe', gateway.url)), { isGood: async (answer) => answer.ok && (await answer.text()) === '{"setups":1}' })
    const touched = startLoad(() => fetch(new URL('/restless', gateway.url)), {
      connections: 2,
      isGood: async (answer) => answer.ok && (await answer.json()).bytes > 0,
    })
    const reload = async (from: number, to: number) => {
      for (let n = from; n < to; n++) {
        const { status, body } = await patch({ restless: { n } })
        expect([n, status, body.restarted]).toEqual([n, 200, ['restless']])
      }
    }
    await reload(1, 60)
    const before = await memory()
    await reload(60, 301)
    await Promise.all([load.stop(), touched.stop()])
    expect([load.failures, touched.failures]).toEqual([[], []])
    expect(load.answered).toBeGreaterThan(300)
    await until(async () => (await metric('restless_timers')) === 1, { message: () => 'old timers stay' })
    // Bun gives pages back late on a busy machine; 2 MB kept by each of the 241 restarts would be three times as much.
    await until(async () => (await memory()) < before + 150, { ms: 20_000, message: () => `memory grew from ${before} MB` })
    expect(await metric('plugins_ready')).toBe(await metric('plugins_ready'))
    expect((await gateway.fetch('/probe')).status).toBe(200)
    // 241 restarts hold 2 MB each for the time of their drain: without the give-back it would be half a gigabyte.
    expect(await (await gateway.fetch('/restless')).json()).toEqual({ n: 300, bytes: 2 * 1024 * 1024 })
  }, 120_000)

  test('an invalid change leaves what runs and says why, by file and by command; a good one is taken by file and by command', async () => {
    const file = join(dirname(gateway.dataDir), 'portico.toml')
    const before = await readFile(file, 'utf8')
    await writeFile(file, before.replace(/n = 300/, 'n = "x"'))
    await until(() => gateway.stderr.includes('was not taken') && gateway.stderr.includes('restless'), { message: () => gateway.stderr.slice(-3_000) })
    expect(((await (await gateway.fetch('/restless')).json()) as any).n).toBe(300)
    await writeFile(file, before.replace(/n = 300/, 'n = 301'))
    await until(async () => ((await (await gateway.fetch('/restless')).json()) as any).n === 301)
    const beside = ['--data-dir', gateway.dataDir, '--config', file, '--json']
    const set = await runPortico(['config', 'set', 'restless.n', '302', ...beside], { runtime })
    expect([set.code, JSON.parse(set.stdout).restarted]).toEqual([0, ['restless']])
    const bad = await runPortico(['config', 'set', 'restless.m', '1', ...beside], { runtime })
    expect([bad.code, JSON.parse(bad.stderr).error.code]).toEqual([1, 'validation_failed'])
    const off = await runPortico(['plugins', 'disable', 'restless', ...beside], { runtime })
    expect([off.code, (await gateway.fetch('/restless')).status]).toEqual([0, 404])
    const on = await runPortico(['plugins', 'enable', 'restless', ...beside], { runtime })
    expect([on.code, ((await (await gateway.fetch('/restless')).json()) as any).n]).toEqual([0, 302])
  }, 60_000)
})
