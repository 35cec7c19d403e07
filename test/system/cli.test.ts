import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type GatewayProcess, type GatewayProcessOptions, runPortico, runtimes, spawnGateway, spawnPortico } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
}, 60_000)
afterAll(() => postgres.stop())
/** Config for what is the same on every database: PostgreSQL is there already, the embedded one takes longest of all at a start. */
const onPostgres = async () => `[database]\nurl = "${await postgres.newDatabase()}"\n`

const root = mkdtempSync(join(tmpdir(), 'portico-cli-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const folder = () => mkdtempSync(join(root, `${folders++}-`))
/** A folder with this config. */
function folderOf(config: string): string {
  const made = folder()
  writeFileSync(join(made, 'portico.toml'), config, { mode: 0o600 })
  return made
}

const running: GatewayProcess[] = []
afterEach(async () => {
  for (const gateway of running.splice(0)) await gateway.stop()
})
async function start(options: GatewayProcessOptions): Promise<GatewayProcess> {
  const gateway = await spawnGateway(options)
  running.push(gateway)
  return gateway
}

describe.each([...runtimes])('portico on %s', (runtime) => {
  const portico = (args: string, options: { dataDir?: string; cwd?: string; env?: Record<string, string> } = {}) =>
    runPortico([...args.split(' '), ...(options.dataDir === undefined ? [] : ['--data-dir', options.dataDir])], {
      runtime,
      cwd: options.cwd ?? root,
      env: options.env,
    })
  const json = async (args: string, dataDir: string, cwd = root) => {
    const { stdout, stderr, code } = await portico(`${args} --json`, { dataDir, cwd })
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 })
    return JSON.parse(stdout)
  }

  describe('without a database', () => {
    test('--version and --help of everything answer, in plain text, and touch no data folder', async () => {
      const dataDir = join(folder(), 'data')
      expect(await portico('--version', { dataDir })).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' })
      const help = await portico('--help', { dataDir })
      for (const name of ['start', 'status', 'keys', 'plugins', 'config', 'events']) expect(help.stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
      expect(help.stdout).toContain('0 done, 1 failed, 2 wrong usage')
      const leaves = ['start', 'keys create']
      const pages = await Promise.all(leaves.map((leaf) => portico(`${leaf} --help`, { dataDir })))
      for (const { code, stdout } of pages) {
        expect(code).toBe(0)
        expect(stdout).toMatch(/Usage\n {2}portico .*\n(?:.*\n)*Examples\n {2}portico /)
        expect(stdout).not.toContain('\u001b')
      }
      expect(existsSync(dataDir)).toBe(false)
    })

    test('unknown flags and commands are refused with the nearest, exit 2', async () => {
      expect(await portico('keys craete')).toEqual({
        code: 2,
        stdout: '',
        stderr: 'portico: unknown command keys craete; did you mean create?\nSee: portico keys --help\n',
      })
      expect((await portico('start --prot 1')).stderr).toContain('unknown flag --prot; did you mean --port?')
      const { code, stderr } = await portico('status --jsn --json')
      expect(code).toBe(2)
      expect(JSON.parse(stderr)).toEqual({ error: { code: 'usage', message: 'unknown flag --jsn; did you mean --json?' } })
    })

    test('config check names every problem at once, exit 1', async () => {
      const cwd = folder()
      const dataDir = join(cwd, 'data')
      expect(await portico('config check', { dataDir, cwd })).toEqual({ code: 0, stdout: 'No config file: the defaults: good.\n', stderr: '' })
      writeFileSync(join(cwd, 'portico.toml'), 'plugins = ["./none.ts"]\n[gateway]\nprot = 1\nhost = "0.0.0.0"\n[settngs]\n')
      const { code, stdout } = await portico('config check', { dataDir, cwd, env: { PORTICO_PROT: '1' } })
      expect(code).toBe(1)
      expect(stdout).toContain('portico.toml: 5 problems')
      for (const name of ['./none.ts', 'prot', 'host', 'settngs', 'PORTICO_PROT']) expect(stdout).toContain(name)
      expect(existsSync(dataDir)).toBe(false)
    })

    test('config schema prints a JSON Schema', async () => {
      const { stdout } = await portico('config schema')
      expect(JSON.parse(stdout)).toMatchObject({ $schema: 'https://json-schema.org/draft/2020-12/schema', properties: { gateway: {}, 'auth-token': {} } })
    })

    test('plugins inspect reads a descriptor elsewhere, and says that the module runs', async () => {
      const cwd = folder()
      const contract = pathToFileURL(join(import.meta.dir, '../../kernel/contract/index.ts')).href
      writeFileSync(
        join(cwd, 'noisy.ts'),
        `import { definePlugin } from '${contract}'\nconsole.log('top level')\nexport default definePlugin({ id: 'noisy', version: '1.2.3', api: 1, summary: 'Noise', paths: ['/noisy'], setup() {} })`,
      )
      const { code, stdout, stderr } = await portico('plugins inspect ./noisy.ts', { cwd })
      expect({ code, stderr }).toEqual({ code: 0, stderr: 'This runs the top level of ./noisy.ts in a process of its own.\n' })
      expect(stdout).toMatch(/^id +noisy$/m)
      expect(stdout).toMatch(/^paths +\/noisy$/m)
      expect(stdout).not.toContain('top level')
      writeFileSync(join(cwd, 'broken.ts'), `throw new Error('no such luck')`)
      expect(await portico('plugins inspect ./broken.ts', { cwd })).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('./broken.ts cannot be inspected: no such luck'),
      })
    })

    test('start with a wrong config prints all problems, exit 1', async () => {
      const cwd = folder()
      writeFileSync(join(cwd, 'portico.toml'), '[gateway]\nprot = 1\n[log]\nlevel = "loud"\n', { mode: 0o600 })
      const { code, stdout, stderr } = await portico('start', { cwd, dataDir: join(cwd, 'data') })
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toContain('[gateway] prot: this key is unknown; did you mean "port"?')
      expect(stderr).toContain('[log] level: has a wrong value; found "loud"; expected "debug" or "info" or "warn" or "error"')
    })
  })

  test('without a gateway the commands open the same app in process', async () => {
    const dataDir = folder()
    const made = await portico('keys create my-app --scope api --expires 30d', { dataDir })
    expect(made).toEqual({ code: 0, stdout: expect.stringMatching(/^ptk_\S+\n$/), stderr: expect.stringContaining('it is not shown again') })
    expect((await json('keys list', dataDir)).keys).toEqual([expect.objectContaining({ name: 'my-app', scopes: ['api'], revokedAt: null })])
    expect(existsSync(join(dataDir, 'run.json'))).toBe(false)
    expect(await portico('status', { dataDir })).toMatchObject({ code: 1, stdout: expect.stringContaining('No gateway is running') })
  }, 180_000)

  test('without a gateway each command sees what those before it have done', async () => {
    const dataDir = folder()
    const cwd = folderOf(await onPostgres())
    const made = await json('keys create my-app', dataDir, cwd)
    const rotated = await json(`keys rotate ${made.id}`, dataDir, cwd)
    expect(rotated.key).toMatch(/^ptk_/)
    expect(rotated.key).not.toBe(made.key)
    expect((await portico(`keys revoke ${made.id}`, { dataDir, cwd })).stdout).toBe(`${made.id} is revoked.\n`)
    expect((await portico('keys revoke key_none', { dataDir, cwd })).code).toBe(1)
    expect((await json('plugins list', dataDir, cwd)).plugins).toContainEqual(expect.objectContaining({ id: 'auth-token', state: 'ready' }))
    expect(await json('config show event-log', dataDir, cwd)).toEqual({ retention: { maxAgeDays: 7, maxRows: 1_000_000 } })
    const types = (await json('events list', dataDir, cwd)).map(({ type }: { type: string }) => type)
    expect(types).toEqual(expect.arrayContaining(['key:created', 'key:rotated', 'key:revoked']))
  }, 180_000)

  test('start says what is there and what to type next; commands beside it speak HTTP; SIGTERM ends it with 0', async () => {
    // As a person does: nothing is set that the gateway needs before its process.
    const gateway = await start({ runtime, dataDir: folder(), env: { BUN_CONFIG_MAX_HTTP_REQUESTS: '' } })
    const { dataDir, url, pid } = gateway
    for (const part of [`Listening  ${url}`, `Data       ${dataDir}`, 'Models', 'keys create', 'curl']) expect(gateway.stdout).toContain(part)
    expect(JSON.parse(readFileSync(join(dataDir, 'run.json'), 'utf8'))).toMatchObject({ url, pid })
    for (const name of ['run.json', 'cli.token']) expect(statSync(join(dataDir, name)).mode & 0o777).toBe(0o600)
    // Nobody is paired yet: a code is shown, here and nowhere else.
    const code = /Pairing +([A-Z2-9]{4}-[A-Z2-9]{4}) /.exec(gateway.stdout)?.[1] ?? ''
    const pair = () => fetch(`${url}/pair`, { method: 'POST', headers: { 'x-pairing-code': code } })
    expect(gateway.stderr + readFileSync(join(dataDir, 'run.json'), 'utf8')).not.toContain(code)
    const paired = (await (await pair()).json()) as { paired: boolean; token: string }
    expect(paired.paired).toBe(true)
    expect((await pair()).status).toBe(401)
    expect((await portico('pair', { dataDir })).stdout).toMatch(/^[A-Z2-9]{4}-[A-Z2-9]{4} {2}at http/)
    // Started anew in place, because the limit has to be there before the process.
    if (runtime === 'bun') expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toContain('BUN_CONFIG_MAX_HTTP_REQUESTS=4096')

    expect(await json('status', dataDir)).toMatchObject({ running: true, url, pid, dataDir, components: { database: 'ok' } })
    expect((await portico('status', { dataDir })).stdout).toContain(`Listening  ${url}`)

    const { key } = await json('keys create beside', dataDir)
    const ping = await fetch(`${url}/v1/ping`, { method: 'POST', headers: { authorization: `Bearer ${key}` } })
    expect(ping.status).toBe(200)
    expect((await json('keys list', dataDir)).total).toBe(2)
    expect((await json('plugins list', dataDir)).plugins.length).toBeGreaterThan(5)

    const second = await portico('start --port 0', { dataDir })
    expect({ code: second.code, stdout: second.stdout }).toEqual({ code: 1, stdout: '' })
    expect(second.stderr).toContain(String(pid))
    expect((await gateway.fetch('/health')).status).toBe(200)

    expect(await gateway.stop()).toBe(0)
    for (const name of ['run.json', 'cli.token']) expect(existsSync(join(dataDir, name))).toBe(false)

    // Whoever is paired needs no code at the next start, unless a new one is asked for; the device stays paired.
    const again = await start({ runtime, dataDir })
    expect(again.stdout).not.toContain('Pairing')
    await again.stop()
    const anew = await start({ runtime, dataDir, args: ['--new-pairing'] })
    expect(anew.stdout).toMatch(/Pairing +[A-Z2-9]{4}-[A-Z2-9]{4} /)
    expect((await anew.fetch('/v1/models', { headers: { authorization: `Bearer ${paired.token}` } })).status).toBe(200)
    await anew.stop()
  }, 180_000)

  test('commands work beside a gateway that listens publicly; its local token is worth nothing through a proxy', async () => {
    const gateway = await start({ runtime, config: `${await onPostgres()}[gateway]\nhost = "0.0.0.0"\nallow_public_bind = true\n` })
    expect(gateway.url).toStartWith('http://0.0.0.0:')
    const url = gateway.url.replace('0.0.0.0', '127.0.0.1')
    expect(gateway.stdout).toContain(`curl ${url}/v1/models`)
    expect(gateway.stdout).toMatch(new RegExp(`Pairing +[A-Z2-9]{4}-[A-Z2-9]{4} at ${url}/ `))
    expect((await json('keys list', gateway.dataDir)).total).toBe(0)
    expect(gateway.stderr).toContain('gateway.hosts is empty')
    const headers = { authorization: `Bearer ${gateway.token}` }
    expect((await fetch(`${url}/api/keys`, { headers })).status).toBe(200)
    expect((await fetch(`${url}/api/keys`, { headers: { ...headers, 'x-forwarded-for': '192.0.2.1' } })).status).toBe(401)
  }, 180_000)

  test('SIGINT drains too; after kill -9 what is left counts as not running, and the next start takes over', async () => {
    const dataDir = folder()
    const config = await onPostgres()
    expect(await (await start({ runtime, dataDir, config })).stop('SIGINT')).toBe(0)
    const killed = await start({ runtime, dataDir, config })
    await killed.kill9()
    expect(existsSync(join(dataDir, 'run.json'))).toBe(true)
    expect((await portico('status --json', { dataDir })).stdout).toBe(`${JSON.stringify({ running: false, dataDir })}\n`)
    const next = await start({ runtime, dataDir, config })
    expect((await next.fetch('/health')).status).toBe(200)
  }, 180_000)

  test('events tail shows events as they happen, and goes on after a restart where it stopped', async () => {
    const dataDir = folder()
    const config = await onPostgres()
    const first = await start({ runtime, dataDir, config })
    const tail = spawnPortico(['events', 'tail', '--types', 'key:*', '--json', '--count', '3', '--data-dir', dataDir], { runtime, cwd: root })
    const lines: any[] = []
    const waiting: { count: number; resolve(): void }[] = []
    let rest = ''
    tail.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n')
      rest = parts.pop() ?? ''
      lines.push(...parts.map((line) => JSON.parse(line)))
      for (const { count, resolve } of waiting) if (lines.length >= count) resolve()
    })
    const shown = (count: number) => new Promise<void>((resolve) => (lines.length >= count ? resolve() : waiting.push({ count, resolve })))
    const ended = new Promise<number | null>((resolve) => tail.on('close', resolve))
    try {
      await streams(first, 1)
      await json('keys create one', dataDir)
      await shown(1)
      expect(await first.stop()).toBe(0)
      await portico('keys create while-down', { dataDir, cwd: folderOf(config) })
      await start({ runtime, dataDir, config })
      await shown(2)
      await json('keys create two', dataDir)
      expect(await ended).toBe(0)
      expect(lines.map(({ type, data }) => [type, typeof data])).toEqual(Array(3).fill(['key:created', 'object']))
      expect(new Set(lines.map(({ cursor }) => cursor)).size).toBe(3)
    } finally {
      tail.kill('SIGKILL')
      await ended
    }
  }, 180_000)

  test('Ctrl-C ends events tail with 0', async () => {
    const gateway = await start({ runtime, config: await onPostgres() })
    const tail = spawnPortico(['events', 'tail', '--data-dir', gateway.dataDir], { runtime, cwd: root })
    const ended = new Promise<number | null>((resolve) => tail.on('close', resolve))
    await streams(gateway, 1)
    tail.kill('SIGINT')
    expect(await ended).toBe(0)
  }, 180_000)
})

/** Waits until the gateway counts so many open event streams. */
async function streams(gateway: GatewayProcess, count: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const text = await (await gateway.fetch('/metrics')).text()
    const open = /^portico_\w*(?:streams|readers|subscribers)\w*(?:\{[^}]*\})? (\d+)$/m.exec(text)
    if (open && Number(open[1]) >= count) return
    await Bun.sleep(25)
  }
  throw new Error('no stream was opened')
}
