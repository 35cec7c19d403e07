/** A folder of hostile plugins beside a probe under constant load: each is named, and the probe notices none of them. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { type Load, startLoad } from '../fixtures/load.ts'
import { until } from '../fixtures/until.ts'

const hostile = (name: string) => fileURLToPath(new URL(`../fixtures/hostile/${name}.ts`, import.meta.url))
const names = [
  ...['probe', 'throwing-setup', 'dependent', 'hanging-setup', 'throwing-ready', 'routes', 'events'],
  ...['sockets', 'provider', 'floating', 'disposer'],
]

describe.each(runtimes)('hostile plugins, on %s', (runtime) => {
  let gateway: GatewayProcess
  let load: Load
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime, config: `plugins = ${JSON.stringify(names.map(hostile))}\n[gateway]\nshutdownDeadlineMs = 500\n` })
    load = startLoad(() => fetch(new URL('/probe', gateway.url)), { isGood: async (answer) => answer.ok && (await answer.text()) === '{"setups":1}' })
  }, 60_000)
  afterAll(() => gateway?.stop())

  const answer = async (path: string, init?: RequestInit) => {
    const response = await gateway.fetch(path, init)
    const text = await response.text().catch((error) => `broken off: ${error}`)
    return { status: response.status, text }
  }
  /** Lines of the log about this plugin. */
  const logged = (plugin: string, what: string | RegExp) =>
    until(() => gateway.stderr.split('\n').some((line) => line.includes(plugin) && (typeof what === 'string' ? line.includes(what) : what.test(line))), {
      message: () => `no line about ${plugin} with ${what} in\n${gateway.stderr.slice(-5_000)}`,
    })
  const plugin = async (id: string) =>
    ((await (await gateway.fetch('/api/plugins')).json()) as { plugins: { id: string; state: string; reason?: string }[] }).plugins.find(
      (entry) => entry.id === id,
    )

  test('a setup that throws, or never settles, fails its plugin; who requires it is blocked; their roots answer 503 with the reason', async () => {
    expect(await plugin('throwing-setup')).toMatchObject({ state: 'failed', reason: expect.stringContaining('setup went wrong') })
    expect(await plugin('hanging-setup')).toMatchObject({ state: 'failed', reason: expect.stringContaining('300 ms') })
    expect(await plugin('dependent')).toMatchObject({ state: 'blocked', reason: expect.stringContaining('throwing-setup') })
    expect(await plugin('throwing-ready')).toMatchObject({ state: 'failed', reason: expect.stringContaining('ready went wrong') })
    for (const path of ['/throwing-setup', '/hanging-setup/deep', '/dependent', '/throwing-ready']) {
      const { status, text } = await answer(path)
      expect({ path, status }).toEqual({ path, status: 503 })
      expect(JSON.parse(text).error).toMatchObject({ code: 'plugin_unavailable', message: expect.stringContaining(path.split('/')[1] ?? '') })
    }
    await logged('throwing-setup', 'setup went wrong')
    await logged('throwing-ready', 'ready went wrong')
  })

  test('a route that throws, an error or nothing, answers 500 without a word of the cause, and is named in the log', async () => {
    for (const path of ['/hostile/throw', '/hostile/throw-nothing', '/hostile/reject']) {
      const { status, text } = await answer(path)
      expect({ path, status }).toEqual({ path, status: 500 })
      expect(text).not.toContain('wrong')
      expect(JSON.parse(text).error.code).toBe('internal_error')
    }
    await logged('hostile-routes', /\/hostile\/throw failed: a route went wrong/)
  })

  test('a route that never settles answers 504 at its deadline', async () => {
    expect(await answer('/hostile/hang')).toMatchObject({ status: 504, text: expect.stringContaining('deadline_exceeded') })
  })

  test('a stream that fails breaks off, one that never ends holds up nobody', async () => {
    const endless = await gateway.fetch('/hostile/stream-endless')
    const { text } = await answer('/hostile/stream-fails').catch((error: unknown) => ({ text: `broken off: ${error}` }))
    expect(text).toMatch(/broken off|^data: 1\n\ndata: 2\n\ndata: 3\n\n$/)
    await load.more(50)
    await endless.body?.cancel()
  })

  test('hooks that Elysia calls global stay within their own group', async () => {
    expect((await answer('/hostile/hook')).status).not.toBe(404)
    expect((await answer('/healthz')).text).toBe('{"status":"ok"}')
    expect(await answer('/probe')).toEqual({ status: 200, text: '{"setups":1}' })
  })

  test('100 MB per call are given back', async () => {
    const memory = async () => {
      const text = await (await gateway.fetch('/metrics')).text()
      return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]) / 1e6
    }
    await answer('/hostile/memory')
    const before = await memory()
    for (let n = 0; n < 20; n++) expect((await answer('/hostile/memory')).status).toBe(200)
    await until(async () => (await memory()) < before + 300, { ms: 20_000, message: () => `memory stays over ${before + 300} MB` })
  })

  test('listeners that throw or reject are reported with their plugin, never felt by the publisher; a durable one is tried again', async () => {
    expect(await answer('/hostile-events/ask', { method: 'POST' })).toEqual({ status: 200, text: 'asked' })
    await logged('hostile-events', 'a listener went wrong')
    await logged('hostile-events', 'an async listener went wrong')
    await logged('hostile-events', 'a durable listener went wrong')
  })

  test('an event of somebody else, or of the wrong shape, cannot be published', async () => {
    for (const path of ['/hostile-events/foreign', '/hostile-events/misshapen']) expect((await answer(path, { method: 'POST' })).status).toBe(500)
    await logged('hostile-events', /key:created/)
    await logged('hostile-events', /hostile-events:asked.*schema/)
  })

  test('a socket hook that throws closes that socket with 1011', async () => {
    for (const [path, talk] of [
      ['/hostile-sockets/open', false],
      ['/hostile-sockets/message', true],
    ] as const) {
      const socket = new WebSocket(new URL(path, gateway.url.replace('http', 'ws')))
      const code = await new Promise<number>((resolve) => {
        socket.addEventListener('open', () => talk && socket.send('hello'))
        socket.addEventListener('close', (event) => resolve(event.code))
      })
      expect({ path, code }).toEqual({ path, code: 1011 })
    }
    await logged('hostile-sockets', 'an open hook went wrong')
    await logged('hostile-sockets', 'a message hook went wrong')
  })

  test('a slot item that throws, or never settles, is named; the others in its slot go on', async () => {
    const models = (await (await gateway.fetch('/v1/models')).json()) as { data: { id: string }[] }
    expect(models.data.map(({ id }) => id)).toContain('demo/echo')
    const chat = (model: string) =>
      answer('/v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] }),
      })
    expect((await chat('hostile/x')).status).toBeGreaterThanOrEqual(500)
    expect((await chat('hostile/hang')).status).toBe(504)
    expect((await chat('demo/echo')).status).toBe(200)
    expect((await answer('/hostile-provider/hang')).status).toBe(504)
    await logged('hostile-provider', 'did not settle within 200 ms')
    await logged('hostile-provider', 'a slot item went wrong')
    await logged('hostile-provider', 'a chat of a slot item went wrong')
  })

  test('a throw in a timer, a microtask or a floating promise ends nothing, and is named by its stack', async () => {
    for (const what of ['timer', 'promise', 'microtask', 'odd']) expect((await answer(`/hostile-floating/${what}`)).status).toBe(200)
    await logged('hostile-floating', 'a timer went wrong')
    await logged('hostile-floating', 'a floating promise went wrong')
    await logged('hostile-floating', 'a microtask went wrong')
    await logged('unknown plugin', 'only a string went wrong')
  })

  test('a loop that blocks for a second is named afterwards', async () => {
    await until(async () => (await (await gateway.fetch('/metrics')).text()).includes('portico_loop_sampled 1'))
    for (const path of ['/hostile/block', '/hostile/block-later']) {
      const seen = gateway.stderr.length
      await answer(path)
      await until(() => /hostile-routes.*block/.test(gateway.stderr.slice(seen)), { message: () => gateway.stderr.slice(seen) })
    }
  })

  test('the probe was set up once, and none of its requests failed; faults are counted; a disposer that hangs does not keep the gateway from ending', async () => {
    await load.more(100)
    expect(gateway.stderr).not.toMatch(/\[FTL\]/)
    const stats = await (await gateway.fetch('/metrics')).text()
    expect(Number(/^portico_faults_total (\d+)/m.exec(stats)?.[1])).toBeGreaterThan(5)
    await load.stop()
    expect(load.failures).toEqual([])
    expect(load.answered).toBeGreaterThan(500)
    expect(await gateway.stop()).toBe(0)
    expect(gateway.stderr).toContain('a disposer went wrong')
    expect(gateway.stderr).toContain('a disposer did not finish')
  }, 30_000)
})
