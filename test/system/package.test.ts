/** The package that users install: what is in it, and that it runs where they have Node, Bun or Deno. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import manifest from '../../package.json'
import { runtimePath } from '../fixtures/gateway-process.ts'
import { type Installed, nodeOnly, startInstalled } from '../fixtures/installed.ts'
import { installedPortico, packedPortico } from '../fixtures/package.ts'
import { installedBlock } from '../fixtures/readme.ts'
import { until } from '../fixtures/until.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'
import { root } from '../rules/source.ts'

let tarball = ''
let folder = ''
let upstream: Upstream
beforeAll(async () => {
  upstream = await startUpstream()
  tarball = await packedPortico()
  folder = await installedPortico()
}, 600_000)
afterAll(() => upstream.stop())

async function run(words: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const env = { ...(await nodeOnly(tmpdir())), ...options.env }
  const child = Bun.spawn([...words], { cwd: options.cwd ?? folder, env, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' })
  const [code, stdout, stderr] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code, stdout, stderr }
}

describe('the tarball', () => {
  let names: string[] = []
  beforeAll(async () => {
    names = (await run(['tar', '-tzf', tarball])).stdout.trim().split('\n')
  })
  const inside = (path: string) => readFileSync(join(folder, 'node_modules/portico', path), 'utf8')

  test('holds JavaScript with its declarations, and what the code reads while it runs', () => {
    for (const name of ['bin/portico.js', 'kernel/cli/main.js', 'kernel/contract/index.d.ts', 'kernel/testkit/index.js', 'plugins/models/testing.d.ts'])
      expect(names).toContain(`package/${name}`)
    for (const name of ['README.md', 'LICENSE', 'CHANGELOG.md', 'package.json', 'docs/operations.md', 'deploy/systemd/portico.service'])
      expect(names).toContain(`package/${name}`)
    const sources = [...new Bun.Glob('{kernel,plugins}/**/*').scanSync(root)].filter((path) => !/\.(ts|md)$/.test(path))
    expect(sources.filter((path) => path.endsWith('.sql')).length).toBeGreaterThan(2)
    for (const path of sources) expect(names).toContain(`package/${path}`)
  })

  test('holds no test, no fixture, no TypeScript, no map, and nothing else', () => {
    const allowed = /^package\/(bin|kernel|plugins|channels|docs|deploy)\/|^package\/(package\.json|README\.md|LICENSE|CHANGELOG\.md|CONTRIBUTING\.md)$/
    expect(names.filter((name) => !allowed.test(name))).toEqual([])
    expect(names.filter((name) => /\.test\.|\/test\/|fixtures|payloads|\.map$|\.tsx?$|tsconfig/.test(name.replace(/\.d\.ts$/, '')))).toEqual([])
    expect(inside('kernel/cli/main.js')).not.toContain('sourceMappingURL')
  })

  test('is small', () => {
    expect(statSync(tarball).size).toBeLessThan(1_500_000)
  })

  test('depends on what runs, each pinned, Bun among it, and on nothing for development', () => {
    const { dependencies, bin, ...rest } = JSON.parse(inside('package.json')) as Record<string, Record<string, string>>
    expect(dependencies).toEqual({ ...manifest.dependencies, bun: manifest.devDependencies.bun })
    expect(bin).toEqual({ portico: 'bin/portico.js' })
    for (const key of ['devDependencies', 'scripts', 'trustedDependencies']) expect(rest[key]).toBeUndefined()
  })

  test('has every entry of the checkout, compiled', () => {
    const { exports } = JSON.parse(inside('package.json')) as { exports: Record<string, { types: string; default: string } | string> }
    expect(Object.keys(exports)).toEqual(Object.keys(manifest.exports))
    const files = Object.values(exports).flatMap((entry) => (typeof entry === 'string' ? [entry] : [entry.types, entry.default]))
    for (const file of files) expect(names.some((name) => new Bun.Glob(`package/${file.slice(2)}`).match(name))).toBe(true)
  })

  test('its documents link to what is there too', () => {
    const documents = names.filter((name) => name.endsWith('.md'))
    for (const document of documents) {
      const links = [...inside(document.slice('package/'.length)).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
      for (const [, link] of links) {
        const target = join(document, '..', link as string)
        expect(names.some((name) => name === target || name.startsWith(`${target}/`)) || `${document} links to ${link}, which is not there`).toBe(true)
      }
    }
  })
})

/** How the user starts it, and how he ends it. */
const node = ['node_modules/.bin/portico']
const waysToRun: [string, 'SIGTERM' | 'Ctrl-C', readonly string[]][] = [
  ['the command itself, on Node', 'SIGTERM', node],
  ['by `bun run`, which hands on what the terminal has sent already', 'Ctrl-C', [runtimePath('bun'), 'run', '--bun', 'portico']],
  ['by Deno', 'SIGTERM', [runtimePath('deno'), 'run', '-A', '--unstable-no-legacy-abort', 'node_modules/.bin/portico']],
]

describe.concurrent('installed in an empty folder by npm, without install scripts', () => {
  test('`npx portico --version` says its version, and an exit code comes through', async () => {
    expect(await run(['npx', 'portico', '--version'])).toMatchObject({ code: 0, stdout: `${manifest.version}\n` })
    expect((await run(['npx', 'portico', 'nonsense'])).code).toBe(2)
  }, 60_000)

  test.each(waysToRun)(
    '%s: it serves on an empty HOME; %s lets an answer in flight finish, and gives the gateway’s exit code',
    async (_, end, command) => {
      await using gateway = await startInstalled({
        command,
        folder,
        terminal: end === 'Ctrl-C',
        config: `[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\n`,
      })
      expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200)
      const { key } = JSON.parse(await gateway.run('keys', 'create', 'first', '--json')) as { key: string }
      const ask = (model: string, content: string, stream: boolean) =>
        fetch(`${gateway.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          body: JSON.stringify({ model, stream, messages: [{ role: 'user', content }] }),
        })
      expect(await (await ask('demo/echo', 'Hello, gateway', false)).text()).toContain('Hello, gateway')

      upstream.script({ frameDelayMs: 20 }, { path: '/v1/chat' })
      const answer = await ask('local/mock-small', 'one two three four five six seven eight nine ten', true)
      if (end === 'Ctrl-C') gateway.pressCtrlC()
      else gateway.kill(end)
      expect((await answer.text()).trimEnd()).toEndWith('data: [DONE]')
      expect(await gateway.exited).toBe(0)
      await gateway.gone()
      expect(gateway.output).toContain('Stopping')
      expect(gateway.output).not.toContain('legacy')
    },
    120_000,
  )

  test('`npx portico start`: Ctrl-C on its terminal stops the gateway once, in peace', async () => {
    await using gateway = await startInstalled({ command: ['npx', 'portico'], folder, terminal: true })
    expect(gateway.output).toContain('npx portico keys create')
    gateway.pressCtrlC()
    await gateway.exited
    await gateway.gone()
    expect(gateway.output).toContain('Stopping')
    expect(hasRunFile(gateway)).toBe(false)
  }, 120_000)

  test.each([
    ['npx ended by SIGTERM', 'SIGTERM', ['npx', 'portico']],
    ['npx killed', 'SIGKILL', ['npx', 'portico']],
    ['the command on Node killed', 'SIGKILL', node],
  ] as const)(
    '%s leaves no gateway behind',
    async (_, signal, command) => {
      await using gateway = await startInstalled({ command, folder })
      gateway.kill(signal)
      await gateway.exited
      await gateway.gone()
      expect(hasRunFile(gateway)).toBe(false)
    },
    120_000,
  )

  test('the README’s last command, as it stands, where its others have installed: it answers, and stops with 0', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'portico-installed-'))
    const env = { ...process.env, PATH: (await nodeOnly(dataDir)).PATH, PORTICO_PORT: '0', PORTICO_DATA_DIR: dataDir, NO_COLOR: '1' }
    const child = Bun.spawn(['bash', '-euo', 'pipefail', '-c', `exec 2>&1\n${installedBlock().start}`], { cwd: folder, env, stdout: 'pipe', stderr: 'inherit' })
    let said = ''
    const reading = (async () => {
      for await (const chunk of child.stdout) said += new TextDecoder().decode(chunk)
    })()
    try {
      await until(() => /Ctrl-C stops it/.test(said) || child.exitCode !== null, { ms: 60_000, message: () => `it starts:\n${said}` })
      expect(said).toContain('npx portico keys create')
      const { pid, url } = JSON.parse(readFileSync(join(dataDir, 'run.json'), 'utf8')) as { pid: number; url: string }
      expect((await fetch(`${url}/healthz`)).status).toBe(200)
      process.kill(pid, 'SIGTERM')
      expect(await child.exited).toBe(0)
      await reading
    } finally {
      if (child.exitCode === null) child.kill('SIGKILL')
      rmSync(dataDir, { recursive: true, force: true })
    }
  }, 120_000)

  test('where Node can become another program, it becomes Bun', async () => {
    const fake =
      'process.execve = (file, args, env) => { console.log(JSON.stringify({ file, args, limit: env.BUN_CONFIG_MAX_HTTP_REQUESTS })); process.exit(0) }'
    const { stdout } = await run([
      'node',
      '--import',
      `data:text/javascript,${encodeURIComponent(fake)}`,
      'node_modules/portico/bin/portico.js',
      'status',
      '--json',
    ])
    const { file, args, limit } = JSON.parse(stdout) as { file: string; args: string[]; limit: string }
    expect(file).toContain('/node_modules/@oven/bun-')
    expect(args).toEqual([file, join(folder, 'node_modules/portico/kernel/cli/main.js'), 'status', '--json'])
    expect(limit).toBe('4096')
  })

  test('its built-in plugins are told apart in a stack, though all lie in one package', async () => {
    const own = join(folder, 'node_modules/portico')
    const { createBlame } = (await import(join(own, 'plugins/diagnostics/blame.js'))) as typeof import('../../plugins/diagnostics/blame.ts')
    const blame = createBlame(['health', 'openai'].map((plugin) => ({ plugin, file: join(own, `plugins/${plugin}/index.js`) })))
    expect(blame.of([join(own, 'plugins/openai/relay.js')])).toBe('openai')
    expect(blame.of([join(own, 'kernel/http/http.js'), join(own, 'plugins/health/routes.js')])).toBe('health')
    expect(blame.of([join(own, 'kernel/http/http.js')])).toBe('kernel')
  })

  test('without any runtime it says what to do', async () => {
    const alone = mkdtempSync(join(tmpdir(), 'portico-alone-'))
    cpSync(join(folder, 'node_modules/portico/bin/portico.js'), join(alone, 'portico.mjs'))
    const { code, stderr } = await run(['node', join(alone, 'portico.mjs'), 'start'])
    rmSync(alone, { recursive: true })
    expect(code).toBe(1)
    expect(stderr).toContain('--omit=optional')
    expect(stderr).toContain('deno run -A npm:portico')
  })
})

describe('a third party’s plugin', () => {
  const project = mkdtempSync(join(tmpdir(), 'portico-author-'))
  afterAll(() => rmSync(project, { recursive: true, force: true }))
  beforeAll(() => {
    symlinkSync(join(folder, 'node_modules'), join(project, 'node_modules'))
    writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
    // The refusals of the contract too: types that were lost on the way would refuse nothing.
    cpSync(join(root, 'test/types/contract.types.ts'), join(project, 'plugin.ts'))
    writeFileSync(join(project, 'plugin.test.ts'), authorsTest)
  })
  const strict = ['--noEmit', '--strict', '--skipLibCheck', '--allowImportingTsExtensions', '--target', 'esnext', '--lib', 'esnext,dom,dom.iterable']

  test.each([
    ['tsc under nodenext', ['--module', 'nodenext']],
    ['tsc under bundler', ['--module', 'esnext', '--moduleResolution', 'bundler']],
  ])('type-checks against the package by %s', async (_, options) => {
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { code, stdout } = await run(['node', tsc, ...strict, ...options, 'plugin.ts', 'plugin.test.ts'], { cwd: project })
    expect(stdout).toBe('')
    expect(code).toBe(0)
  })

  test('type-checks against the package by deno check', async () => {
    const { code, stderr } = await run([runtimePath('deno'), 'check', '--quiet', 'plugin.ts', 'plugin.test.ts'], { cwd: project })
    expect(stderr).toBe('')
    expect(code).toBe(0)
  })
})

const authorsTest = `
import { keyCreated } from 'portico/plugins/auth-token'
import { models } from 'portico/plugins/models'
import { createScriptedProvider } from 'portico/plugins/models/testing'
import { startTestGateway } from 'portico/testkit'
import { whole } from './plugin.ts'

export async function check(): Promise<string> {
  await using gateway = await startTestGateway({ plugins: [whole] })
  const { status } = await gateway.json('/pager')
  const type: 'key:created' = keyCreated.type
  // @ts-expect-error a token is text
  const token: number = gateway.adminToken
  // @ts-expect-error a service's ref has no such field
  models.nope
  return [status, type, token, typeof createScriptedProvider].join()
}
`

/** True while the gateway's run file is there: an orderly stop removes it. */
function hasRunFile({ home }: Installed): boolean {
  return statSync(join(home, '.local/share/portico/run.json'), { throwIfNoEntry: false }) !== undefined
}
