/** What a running gateway leaves for others on its machine, and what it takes from its environment. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import pg from 'pg'
import { type GatewayProcess, runPortico, runtimes, spawnGateway, spawnPortico } from '../fixtures/gateway-process.ts'
import { bearer, outcome } from '../fixtures/send.ts'

const emitter = fileURLToPath(new URL('../fixtures/plugins/emitter.ts', import.meta.url))
const contract = pathToFileURL(join(import.meta.dir, '../../kernel/contract/index.ts')).href
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-beside-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

describe.each(runtimes)('on %s', (runtime) => {
  const running: GatewayProcess[] = []
  const start = async (options: Partial<Parameters<typeof spawnGateway>[0]> = {}) => {
    const gateway = await spawnGateway({ runtime, ...options })
    running.push(gateway)
    return gateway
  }
  afterEach(async () => {
    for (const gateway of running.splice(0)) await gateway.stop()
  })
  const runFile = (dataDir: string) => JSON.parse(readFileSync(join(dataDir, 'run.json'), 'utf8'))

  test('plain clients on the socket that run.json names hear each other and the same data as the gateway, while it works', async () => {
    const gateway = await start({ config: `plugins = [${JSON.stringify(emitter)}]\n` })
    const { socket } = runFile(gateway.dataDir)
    expect(existsSync(socket)).toBe(true)
    const folder = statSync(socket).isDirectory() ? socket : dirname(socket)
    expect(statSync(folder).mode & 0o077).toBe(0)
    const clients = [0, 1].map(() => new pg.Client({ host: folder, user: 'postgres', database: 'postgres', ssl: false }))
    const [listener, teller] = clients as [pg.Client, pg.Client]
    for (const client of clients) await client.connect()
    try {
      const heard: string[] = []
      const last = new Promise<void>((resolve) =>
        listener.on('notification', ({ channel, payload }) => {
          // The one session listens for all of its clients, the gateway included.
          if (channel !== 'news') return
          heard.push(payload ?? '')
          if (payload === '49') resolve()
        }),
      )
      await listener.query('listen news')
      const emitting = gateway.fetch('/emit', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"from":1,"to":100}' })
      for (let n = 0; n < 50; n++) {
        const { rows } = await teller.query(`select pg_notify('news', $1), $2::int + 1 as next`, [`${n}`, n])
        expect(rows[0].next).toBe(n + 1)
      }
      await last
      expect(heard).toEqual(Array.from({ length: 50 }, (_, n) => `${n}`))
      expect((await emitting).status).toBe(200)
      const { rows } = await listener.query(
        `select (select count(*) from event_log_outbox where type = 'emitter:said') + (select count(*) from event_log_events where type = 'emitter:said') as n`,
      )
      expect(Number(rows[0].n)).toBe(100)
    } finally {
      for (const client of clients) await client.end()
    }
  }, 30_000)

  test('run.json is of the serving process; cli.token is new at each start, and the last one is worth nothing', async () => {
    const dataDir = await mkdtemp(join(root, 'd-'))
    const before = Date.now()
    const first = await start({ dataDir })
    expect(runFile(dataDir)).toEqual({ url: first.url, pid: first.pid, startedAt: expect.any(String), socket: expect.any(String), certificate: null })
    const startedAt = Date.parse(runFile(dataDir).startedAt)
    expect(startedAt).toBeGreaterThanOrEqual(before)
    expect(startedAt).toBeLessThanOrEqual(Date.now())
    expect(readFileSync(`/proc/${first.pid}/cmdline`, 'utf8')).toContain('kernel/cli/main.ts')
    expect(await outcome(first, '/api/keys', { headers: bearer(first.token) })).toBe('200')
    await first.kill9()
    const second = await start({ dataDir })
    expect(second.token).not.toBe(first.token)
    expect(second.token.length).toBeGreaterThanOrEqual(43)
    expect(await outcome(second, '/api/keys', { headers: bearer(first.token) })).toBe('401 invalid_api_key')
    expect(await outcome(second, '/api/keys', { headers: bearer(second.token) })).toBe('200')
    expect(statSync(dataDir).mode & 0o077).toBe(0)
  }, 30_000)

  test('config, data folder, port, host and a bearer with all scopes may come from the environment; a flag beats it', async () => {
    const home = await mkdtemp(join(root, 'e-'))
    await writeFile(join(home, 'other.toml'), '[log]\nlevel = "warn"\n[provider-demo]\nenabled = false\n', { mode: 0o600 })
    const env = {
      ...{ PORTICO_CONFIG: join(home, 'other.toml'), PORTICO_DATA_DIR: join(home, 'data'), PORTICO_PORT: '0' },
      ...{ PORTICO_HOST: 'localhost', PORTICO_TOKEN: 'a-bearer-with-all-scopes-0123456789' },
    }
    const child = spawnPortico(['start', '--host', '127.0.0.1'], { runtime, env, cwd: home })
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    try {
      let said = ''
      child.stderr?.resume()
      for await (const chunk of child.stdout ?? []) {
        said += chunk
        if (said.includes('Ctrl-C')) break
      }
      expect(said).toContain(join(home, 'other.toml'))
      const { url } = runFile(join(home, 'data'))
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
      expect(url).not.toContain(':4766')
      const headers = bearer(env.PORTICO_TOKEN)
      for (const path of ['/v1/models', '/api/keys', '/api/config']) expect([path, await outcome({ url }, path, { headers })]).toEqual([path, '200'])
      // It is for other machines too.
      expect(await outcome({ url }, '/api/keys', { headers: { ...headers, 'x-forwarded-for': '192.0.2.1' } })).toBe('200')
      const shown = await runPortico(['config', 'show', '--json'], { runtime, env, cwd: home })
      expect(JSON.parse(shown.stdout)).toMatchObject({ gateway: { host: '127.0.0.1', port: 0 }, log: { level: 'warn' } })
      expect(JSON.parse(shown.stdout)).not.toHaveProperty('provider-demo')
      expect(shown.stdout).not.toContain(env.PORTICO_TOKEN)
    } finally {
      child.kill('SIGTERM')
      expect(await ended).toBe(0)
    }
  }, 30_000)

  test('a plugin lies beside the config that names it, wherever the command is called from; its command, its config and its outer db are as declared', async () => {
    const home = await mkdtemp(join(root, 'p-'))
    await mkdir(join(home, 'plugins'))
    await writeFile(
      join(home, 'plugins/mine.ts'),
      `import { definePlugin, guard, rpc, t } from '${contract}'
import { sql } from '${import.meta.resolve('drizzle-orm')}'
export default definePlugin({
  id: 'mine', version: '1.0.0', api: 1, summary: 'Mine', paths: ['/mine'], config: t.Object({ greeting: t.String({ default: 'hello' }) }),
  commands: [{ name: 'mine', summary: 'Say it', load: () => import('./command.ts') }],
  setup: (ctx) => ({
    routes: [guard(rpc, (app) => app
      .get('/mine', () => ({ greeting: ctx.config.greeting }))
      .get('/mine/outer', async () => {
        const begun = performance.now()
        const message = await ctx.db.transaction(async () => ctx.db.execute(sql\`select 1\`)).then(() => 'none', (error) => String(error))
        return { message, ms: performance.now() - begun }
      }))],
  }),
})\n`,
    )
    await writeFile(
      join(home, 'plugins/command.ts'),
      `export default { summary: 'Say it', examples: ['portico mine'], async run({ request, print }) { const it = await request('GET', '/mine'); print(it, it.greeting); return 0 } }\n`,
    )
    await writeFile(join(home, 'portico.toml'), 'plugins = ["./plugins/mine.ts"]\n[mine]\ngreeting = "ahoy"\n', { mode: 0o600 })
    const gateway = await start({ args: ['--config', join(home, 'portico.toml')] })
    expect(await (await gateway.fetch('/mine')).json()).toEqual({ greeting: 'ahoy' })
    const { message, ms } = (await (await gateway.fetch('/mine/outer')).json()) as { message: string; ms: number }
    expect(message).toContain('outer db')
    expect(ms).toBeLessThan(500)
    const said = await runPortico(['mine', '--config', join(home, 'portico.toml'), '--data-dir', gateway.dataDir], { runtime, cwd: root })
    expect(said).toEqual({ code: 0, stdout: 'ahoy\n', stderr: '' })
    await cp(join(home, 'portico.toml'), join(home, 'wrong.toml'))
    await writeFile(join(home, 'wrong.toml'), 'plugins = ["./plugins/mine.ts"]\n[mine]\ngreting = "ahoy"\n', { mode: 0o600 })
    const wrong = await runPortico(['config', 'check', '--config', join(home, 'wrong.toml')], { runtime, cwd: root })
    expect(wrong.code).toBe(1)
    expect(wrong.stdout).toContain('[mine] greting: this key is unknown; did you mean "greeting"?')
  }, 30_000)
})
