import { describe, expect, test } from 'bun:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { authMethods, contextOf, defineEvent, definePlugin, defineService, open, type Plugin, rpc, t } from 'portico'
import { sseHeaders } from 'portico/plugins/events'
import { readStats } from 'portico/plugins/metrics'
import { startTestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'

const base = { version: '1.0.0', api: 1, summary: 'A test plugin' }
const word = t.Object({ word: t.String({ default: 'none' }) })
const echo = defineService<{ say(): string }>('echo')

/** Counts what happens to its plugins. */
function scene() {
  const steps: string[] = []
  const giver = definePlugin({
    ...base,
    id: 'giver',
    config: word,
    provides: { echo },
    setup(ctx) {
      steps.push(`giver up ${ctx.config.word}`)
      ctx.defer(() => void steps.push(`giver down ${ctx.config.word}`))
      return { services: { echo: { say: () => ctx.config.word } } }
    },
  })
  let release = () => {}
  const taker = definePlugin({
    ...base,
    id: 'taker',
    requires: { echo },
    paths: ['/taker'],
    setup(ctx) {
      steps.push('taker up')
      ctx.defer(() => void steps.push('taker down'))
      const say = () => ctx.services.echo.say()
      return {
        routes: [open((app) => app.get('/taker', say).get('/taker/slow', () => new Promise<string>((resolve) => (release = () => resolve(say())))))],
      }
    },
  })
  const pliant = definePlugin({
    ...base,
    id: 'pliant',
    config: word,
    paths: ['/pliant'],
    setup(ctx) {
      steps.push('pliant up')
      let { config } = ctx
      return {
        routes: [open((app) => app.get('/pliant', () => config.word))],
        reconfigure(next) {
          if (next.word === 'refused') throw new Error('not that word')
          steps.push(`pliant ${next.word}`)
          config = next
        },
      }
    },
  })
  const neighbour = definePlugin({ ...base, id: 'neighbour', setup: () => void steps.push('neighbour up') })
  return { steps, plugins: [giver, taker, pliant, neighbour] as Plugin[], release: () => release() }
}

describe('a changed config', () => {
  test('restarts what changed with those that need it, hands itself to what takes it, and leaves the rest alone', async () => {
    const { steps, plugins } = scene()
    await using gateway = await startTestGateway({ only: plugins, config: '[giver]\nword = "one"\n' })
    const text = async (path: string) => (await gateway.fetch(path)).text()
    steps.length = 0
    const report = await gateway.gateway.kernel.reload({ text: '[giver]\nword = "two"\n[pliant]\nword = "soft"\n', by: 'ann' })
    expect(report).toEqual({
      ...{ keys: ['giver.word', 'pliant.word'], started: [], restarted: ['giver', 'taker'] },
      ...{ reconfigured: ['pliant'], stopped: [], needsRestart: [] },
    })
    expect([await text('/taker'), await text('/pliant')]).toEqual(['two', 'soft'])
    await until(() => steps.length === 5)
    expect(steps).toEqual(['giver up two', 'taker up', 'pliant soft', 'taker down', 'giver down one'])
    expect((await gateway.events.waitFor('config:patched')).data).toEqual({ ...report, by: 'ann' })
    expect(gateway.gateway.kernel.config().values.giver).toEqual({ word: 'two' })
    steps.length = 0
    expect(await gateway.gateway.kernel.reload()).toMatchObject({ keys: [], restarted: [], reconfigured: [] })
    expect(steps).toEqual([])
  })

  test('lets a request in flight finish on the old code, with the old services', async () => {
    const { plugins, release } = scene()
    await using gateway = await startTestGateway({ only: plugins, config: '[giver]\nword = "old"\n' })
    const slow = gateway.fetch('/taker/slow')
    await until(() => readStats(gateway.gateway.kernel).gauges.requests_in_flight === 1)
    await gateway.gateway.kernel.reload({ text: '[giver]\nword = "new"\n' })
    expect(await (await gateway.fetch('/taker')).text()).toBe('new')
    release()
    expect(await (await slow).text()).toBe('old')
  })

  test('that is invalid changes nothing and says everything that is wrong', async () => {
    const { steps, plugins } = scene()
    await using gateway = await startTestGateway({ only: plugins, config: '[giver]\nword = "one"\n' })
    steps.length = 0
    const bad = '[giver]\nwrod = "x"\n[gateway]\nmaxStreams = "many"\n'
    const error = await gateway.gateway.kernel.reload({ text: bad }).catch((thrown) => thrown)
    expect(error.message).toMatch(/2 problems.*wrod.*"word"|2 problems.*maxStreams/s)
    expect(await gateway.gateway.kernel.check(bad)).toHaveLength(2)
    expect(steps).toEqual([])
    expect(await (await gateway.fetch('/taker')).text()).toBe('one')
  })

  test('with which a plugin cannot be set up, or does not agree, is undone whole', async () => {
    const picky = definePlugin({
      ...base,
      id: 'picky',
      config: word,
      paths: ['/picky'],
      setup(ctx) {
        if (ctx.config.word === 'bad') throw new Error('no such word')
        return { routes: [open((app) => app.get('/picky', () => ctx.config.word))] }
      },
    })
    const { steps, plugins } = scene()
    await using gateway = await startTestGateway({ only: [...plugins, picky] })
    const text = async (path: string) => (await gateway.fetch(path)).text()
    for (const [change, why] of [
      ['[picky]\nword = "bad"\n[giver]\nword = "x"\n', 'the plugin "picky" (setup: no such word)'],
      ['[pliant]\nword = "refused"\n[giver]\nword = "x"\n', 'reconfigure of the plugin "pliant" failed (not that word)'],
    ] as const) {
      await expect(gateway.gateway.kernel.reload({ text: change })).rejects.toThrow(`The change was not taken: ${why}`)
      expect([await text('/picky'), await text('/taker'), await text('/pliant')]).toEqual(['none', 'none', 'none'])
    }
    // What was set up beside is undone, what ran goes on.
    expect(steps.filter((step) => step === 'giver up x').length).toBe(steps.filter((step) => step === 'giver down x').length)
    expect(steps).not.toContain('giver down none')
    expect(gateway.gateway.kernel.plugins().every(({ state }) => state === 'ready')).toBe(true)
    await gateway.gateway.kernel.reload({ text: '[picky]\nword = "good"\n' })
    expect(await text('/picky')).toBe('good')
  })

  test('switches plugins off and on; a failed one gets its chance with the config that mends it', async () => {
    const { plugins } = scene()
    const weak = definePlugin({
      ...base,
      id: 'weak',
      config: word,
      paths: ['/weak'],
      setup(ctx) {
        if (ctx.config.word === 'none') throw new Error('needs a word')
        return { routes: [open((app) => app.get('/weak', () => 'strong'))] }
      },
    })
    await using gateway = await startTestGateway({ only: [...plugins, weak] })
    expect((await gateway.fetch('/weak')).status).toBe(503)
    const status = async (path: string) => (await gateway.fetch(path)).status
    expect(await gateway.gateway.kernel.reload({ text: '[pliant]\nenabled = false\n' })).toMatchObject({ stopped: ['pliant'] })
    expect([await status('/pliant'), await status('/weak')]).toEqual([404, 503])
    expect(await gateway.gateway.kernel.reload({ text: '[weak]\nword = "yes"\n' })).toMatchObject({ started: ['pliant'], restarted: ['weak'] })
    expect([await status('/pliant'), await status('/weak')]).toEqual([200, 200])
  })

  test('of the gateway itself takes effect at once, but for what is read at the start only', async () => {
    await using gateway = await startTestGateway({ listen: true })
    const asked = { headers: { origin: 'https://app.example' } }
    expect((await gateway.fetch('/healthz', asked)).status).toBe(403)
    const { keys, needsRestart } = await gateway.gateway.kernel.reload({
      text: '[gateway]\ncorsOrigins = ["https://app.example"]\nhttpBodyLimitBytes = 1024\nport = 4799\n[pglite]\nsilenceMs = 9000\n[log]\naccess = true\n',
    })
    expect(keys).toEqual(expect.arrayContaining(['gateway.corsOrigins', 'gateway.httpBodyLimitBytes']))
    expect(needsRestart).toEqual(['pglite'])
    expect((await gateway.fetch('/healthz', asked)).headers.get('access-control-allow-origin')).toBe('https://app.example')
    expect((await gateway.json('/api/keys', { method: 'POST', body: { name: 'x'.repeat(2_000) } })).status).toBe(413)
  })
})

describe('what a restart leaves and what it ends', () => {
  test('listeners, slot items and durable subscriptions change hands at the swap: nothing is heard twice, nothing missed', async () => {
    const said = defineEvent('speaker:said', t.Object({ n: t.Integer() }), { scope: rpc, durable: true })
    const heard: string[] = []
    const speaker = definePlugin({
      ...base,
      id: 'speaker',
      events: [said],
      setup(ctx) {
        say = (n) => ctx.publish(said, { n })
      },
    })
    let say: (n: number) => Promise<void> = async () => {}
    const listener = definePlugin({
      ...base,
      id: 'listener',
      config: word,
      adds: [authMethods],
      setup(ctx) {
        const { word: name } = ctx.config
        ctx.on(said, ({ data }) => void heard.push(`${name} live ${data.n}`))
        ctx.on(said, ({ data }) => void heard.push(`${name} kept ${data.n}`), { cursor: 'all' })
        ctx.add(authMethods, { name, authenticate: () => null })
      },
    })
    await using gateway = await startTestGateway({ only: [speaker, listener] })
    await say(1)
    await until(() => heard.length === 2)
    await gateway.gateway.kernel.reload({ text: '[listener]\nword = "next"\n' })
    await say(2)
    await until(() => heard.length === 4)
    expect(heard.toSorted()).toEqual(['next kept 2', 'next live 2', 'none kept 1', 'none live 1'])
  })

  test('event streams of a replaced plugin end at once, those of others go on, and a model stream finishes', async () => {
    const streaming = (id: string) =>
      definePlugin({
        ...base,
        id,
        config: word,
        paths: [`/${id}`],
        setup: () => ({
          routes: [
            open(
              (app) =>
                app
                  .get(`/${id}/events`, ({ request }) => {
                    let controller!: ReadableStreamDefaultController<Uint8Array>
                    const stream = new ReadableStream<Uint8Array>({
                      start(given) {
                        controller = given
                      },
                    })
                    contextOf(request).hold('events', () => controller.close())
                    controller.enqueue(new TextEncoder().encode('retry: 1\n\n'))
                    return new Response(stream, { headers: sseHeaders })
                  })
                  .get(`/${id}/work`, ({ request }) => {
                    let controller!: ReadableStreamDefaultController<Uint8Array>
                    const stream = new ReadableStream<Uint8Array>({
                      start(given) {
                        controller = given
                      },
                    })
                    const release = contextOf(request).hold('work', () => controller.error(new Error('cut')))
                    setTimeout(() => {
                      controller.enqueue(new TextEncoder().encode('whole'))
                      controller.close()
                      release()
                    }, 100)
                    return new Response(stream)
                  }),
              { stream: true },
            ),
          ],
        }),
      })
    await using gateway = await startTestGateway({ only: [streaming('one'), streaming('two')], listen: true })
    const [one, two, work] = await Promise.all([gateway.fetch('/one/events'), gateway.fetch('/two/events'), gateway.fetch('/one/work')])
    await gateway.gateway.kernel.reload({ text: '[one]\nword = "again"\n' })
    expect(await one.text()).toBe('retry: 1\n\n')
    expect(await work.text()).toBe('whole')
    const reader = two.body!.getReader()
    await reader.read()
    expect(await Promise.race([reader.read(), Bun.sleep(50).then(() => 'still open')])).toBe('still open')
    await reader.cancel()
  })

  test('a third party’s module is loaded again when it is asked for, and only then', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'portico-reload-'))
    try {
      const file = join(folder, 'mine.ts')
      const write = (answer: string) =>
        writeFile(
          file,
          `import { definePlugin, open } from '${new URL('../contract/index.ts', import.meta.url).pathname}'
export default definePlugin({ id: 'mine', version: '1.0.0', api: 1, summary: 'x', paths: ['/mine'], setup: () => ({ routes: [open((app) => app.get('/mine', () => '${answer}'))] }) })`,
        )
      await write('first')
      await using gateway = await startTestGateway({ config: `plugins = [${JSON.stringify(file)}]\n` })
      const answer = async () => (await gateway.fetch('/mine')).text()
      await write('second')
      await gateway.gateway.kernel.reload()
      expect(await answer()).toBe('first')
      expect(await gateway.gateway.kernel.reload({ restart: ['mine'] })).toMatchObject({ restarted: ['mine'], keys: [] })
      expect(await answer()).toBe('second')
      await gateway.gateway.kernel.reload({ text: `plugins = [${JSON.stringify(file)}]\n[log]\nlevel = "debug"\n` })
      expect(await answer()).toBe('second')
      await write("broken' +")
      await expect(gateway.gateway.kernel.reload({ restart: ['mine'] })).rejects.toThrow('could not be loaded')
      expect(await answer()).toBe('second')
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
