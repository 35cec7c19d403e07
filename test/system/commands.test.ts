/** Every command there is: its help, its JSON beside a gateway, and how the checkout starts it. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type GatewayProcess, runCommands, runPortico, runtimePath, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { openTerminal } from '../fixtures/terminal.ts'

const project = join(import.meta.dir, '../..')
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-commands-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

describe.each(runtimes)('on %s', (runtime) => {
  /** The help of each, by its words. */
  const helpOf = async (names: readonly string[]) => {
    const lines = names.map((name) => [...name.split(' ').filter(Boolean), '--help'])
    const results = await runCommands(lines, { runtime, cwd: root })
    for (const { code, stderr } of results) expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return new Map(names.map((name, at) => [name, results[at]?.stdout ?? '']))
  }
  /** The names under "Commands". */
  const named = (page: string) => [...(/^Commands\n((?: {2}.*\n?)+)/m.exec(page)?.[1] ?? '').matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1] as string)

  test('every command has a --help with examples whose flags exist, and takes --json', async () => {
    const leaves: string[] = []
    const [first = ''] = (await helpOf([''])).values()
    for (const [name, page] of await helpOf(named(first))) {
      const children = named(page)
      leaves.push(...(children.length === 0 ? [name] : children.map((child) => `${name} ${child}`)))
    }
    expect(leaves.sort()).toEqual(
      [
        ...['backup', 'chat', 'config check', 'config reload', 'config schema', 'config set', 'config show', 'doctor', 'events list', 'events tail', 'init'],
        ...[
          'keys create',
          'keys list',
          'keys revoke',
          'keys rotate',
          'pair',
          'plugins disable',
          'plugins enable',
          'plugins inspect',
          'plugins link',
          'plugins list',
          'plugins new',
        ],
        ...[
          'plugins reload',
          'restore',
          'start',
          'status',
          'tools',
          'approvals list',
          'approvals show',
          'approvals approve',
          'approvals deny',
          'approvals answer',
        ],
        ...[
          'runs submit',
          'runs list',
          'runs show',
          'runs watch',
          'runs cancel',
          'runs retry',
          'runs delete',
          'agents list',
          'agents show',
          'agents create',
          'agents delete',
        ],
      ].sort(),
    )
    for (const [leaf, page] of await helpOf(leaves)) {
      for (const part of [`portico ${leaf}`, '--json', '--data-dir', '--config']) expect([leaf, page]).toEqual([leaf, expect.stringContaining(part)])
      const examples = [...(/^Examples\n((?: {2}.*\n)+)/m.exec(page)?.[1] ?? '').matchAll(/^ {2}(.+)$/gm)].map((match) => match[1] as string)
      expect([leaf, examples.length > 0]).toEqual([leaf, true])
      for (const example of examples) {
        expect(example).toContain(`portico ${leaf}`)
        const words = example.slice(example.indexOf('portico ') + 8).split(' ')
        for (const flag of words.filter((word) => word.startsWith('--'))) expect([example, page]).toEqual([example, expect.stringContaining(flag)])
      }
    }
  }, 60_000)

  test('the checkout starts it as the README and the help say', async () => {
    const args = runtime === 'bun' ? ['run', '--silent', 'portico', '--version'] : ['task', '--quiet', 'portico', '--version']
    const child = spawn(runtimePath(runtime), args, { cwd: project, env: { PATH: process.env.PATH, HOME: root, NO_COLOR: '1', BUN_INSTALL: root } })
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    const code = await new Promise((resolve) => child.once('close', resolve))
    expect({ code, out, err }).toEqual({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), err: '' })
  }, 30_000)

  describe('beside a gateway', () => {
    let gateway: GatewayProcess
    beforeAll(async () => {
      gateway = await spawnGateway({ runtime })
    }, 30_000)
    afterAll(() => gateway?.stop())
    const json = async (words: string) => {
      const { code, stdout, stderr } = await runPortico([...words.split(' '), '--json', '--data-dir', gateway.dataDir], { runtime, cwd: root })
      expect({ words, code, stderr }).toEqual({ words, code: 0, stderr: '' })
      return JSON.parse(stdout)
    }

    test('each answers in JSON what the gateway knows, and leaves it as it is', async () => {
      const made = await json('keys create app --scope rpc --scope api')
      expect(made).toMatchObject({ name: 'app', scopes: ['rpc', 'api'] })
      expect(made.key).toMatch(/^ptk_/)
      const rotated = await json(`keys rotate ${made.id}`)
      expect(rotated.key).not.toBe(made.key)
      await json(`keys revoke ${made.id}`)
      const listed = JSON.stringify(await json('keys list'))
      for (const secret of [made.key, rotated.key]) expect(listed).not.toContain(secret)
      const types = (await json('events list')).map(({ type }: { type: string }) => type)
      for (const type of ['key:created', 'key:rotated', 'key:revoked', 'plugin:ready']) expect(types).toContain(type)
      expect(await json('plugins inspect metrics')).toMatchObject({ id: 'metrics', paths: ['/metrics'] })
      expect((await json('plugins list')).plugins.length).toBeGreaterThan(9)
      expect(await json('config show gateway')).toMatchObject({ host: '127.0.0.1' })
      expect(await json('config check')).toBeDefined()
      expect(await json('config schema')).toMatchObject({ type: 'object' })
      expect(await json('status')).toMatchObject({ running: true, pid: gateway.pid })
      expect((await gateway.fetch('/readyz')).status).toBe(200)
    }, 60_000)

    test('in a terminal each speaks to a person, in colour unless NO_COLOR is set, and ends', async () => {
      const { dataDir } = gateway
      const folder = await mkdtemp(join(root, 'terminal-'))
      const main = join(project, 'kernel/cli/main.ts')
      const at = (...words: string[]) => [runtimePath(runtime), ...(runtime === 'deno' ? ['run', '-A'] : []), main, ...words, '--data-dir', dataDir]
      const { id } = await json('keys create terminal')
      const config = ((await (await gateway.fetch('/api/config')).json()) as { file: string }).file
      const file = join(folder, 'saved')
      const commands: [words: string[], shows: RegExp, code?: number][] = [
        [['status'], /Listening/],
        [['keys', 'create', 'typed'], /ptk_/],
        [['keys', 'list'], /NAME.*KIND/],
        [['keys', 'rotate', id], /ptk_/],
        [['keys', 'revoke', id], /is revoked/],
        [['pair'], /[A-Z2-9]{4}-[A-Z2-9]{4}/],
        [['chat', 'hello there', '--model', 'demo/echo'], /hello there/],
        [['events', 'list'], /key:created/],
        [['events', 'tail', '--since', '0-0', '--count', '1'], /model:catalog_loaded|plugin:/],
        [['plugins', 'list'], /auth-token +ready/],
        [['tools'], /web_fetch +safe/],
        [['plugins', 'inspect', 'metrics'], /metrics/],
        [['plugins', 'disable', 'metrics'], /stopped: metrics/],
        [['plugins', 'enable', 'metrics'], /started: metrics/],
        [['plugins', 'reload', 'metrics'], /restarted: metrics/],
        [['plugins', 'new', 'typed', '--dir', join(folder, 'typed')], /Type next/],
        [['plugins', 'link', folder], /node_modules/],
        [['config', 'show', 'log'], /"level"/],
        [['config', 'check'], /good/],
        [['config', 'schema'], /json-schema/],
        [['config', 'set', 'log.level', 'debug'], /changed: log.level/],
        [['config', 'reload'], /Nothing changed/],
        [['doctor'], /./],
        [['backup', file], /./],
        [['restore', file], /would be lost/, 1],
        [['keys', 'revoke', 'key_0'], /There is no living key/, 1],
        [['keyz'], /did you mean keys/, 2],
      ]
      for (const [words, shows, code = 0] of commands) {
        const terminal = openTerminal(at(...words), { cwd: dirname(config) })
        expect([words, await terminal.exited, terminal.screen]).toEqual([words, code, expect.stringMatching(shows)])
        if (code > 0) expect([words, terminal.screen]).toEqual([words, expect.stringContaining('\u001b[31m')])
      }
      const plain = openTerminal(at('keyz'), { cwd: folder, env: { NO_COLOR: '1' } })
      expect(await plain.exited).toBe(2)
      expect(plain.screen).not.toContain('\u001b[31m')
    }, 120_000)

    test('what the gateway refuses is an error with its code, exit 1', async () => {
      const { code, stdout, stderr } = await runPortico(['keys', 'create', 'x', '--scope', 'amdin', '--json', '--data-dir', gateway.dataDir], {
        runtime,
        cwd: root,
      })
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(JSON.parse(stderr).error).toMatchObject({ code: 'validation_failed', message: expect.stringContaining('admin') })
    }, 30_000)
  })
})
