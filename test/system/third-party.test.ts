/** A third party's plugin that uses everything there is: by its path, from a folder outside the checkout, and as a package of JavaScript that npm packed. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { until } from '../fixtures/until.ts'

const checkout = join(import.meta.dir, '../..')
const source = join(checkout, 'test/fixtures/third-party')
const root = mkdtempSync(join(tmpdir(), 'portico-third-party-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

async function run(command: string[], cwd: string): Promise<string> {
  const child = Bun.spawn(command, { cwd, stdout: 'pipe', stderr: 'pipe', env: { ...process.env, NO_COLOR: '1' } })
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited])
  expect([command.join(' '), code, code === 0 ? '' : out + err]).toEqual([command.join(' '), 0, ''])
  return out + err
}

/** A folder in which `portico` is found. */
function home(name: string): string {
  const folder = join(root, name)
  mkdirSync(join(folder, 'node_modules'), { recursive: true })
  symlinkSync(checkout, join(folder, 'node_modules/portico'), 'dir')
  return folder
}

const byPath = join(home('by-path'), 'notes')
const byPackage = home('by-package')

beforeAll(async () => {
  cpSync(source, byPath, { recursive: true })
  // In the checkout it must not be taken for one of the project's own tests.
  renameSync(join(byPath, 'notes-test.ts'), join(byPath, 'notes.test.ts'))

  // As its author publishes it: compiled, packed, and unpacked where it is installed.
  const workshop = home('workshop')
  cpSync(source, workshop, { recursive: true })
  const options = [
    '--moduleResolution',
    'bundler',
    '--module',
    'preserve',
    '--target',
    'esnext',
    '--lib',
    'esnext,dom,dom.iterable,dom.asynciterable',
    '--types',
    'node',
    '--typeRoots',
    join(checkout, 'node_modules/@types'),
  ]
  const emit = [
    '--declaration',
    '--strict',
    '--skipLibCheck',
    '--resolveJsonModule',
    '--allowImportingTsExtensions',
    '--rewriteRelativeImportExtensions',
    '--rootDir',
    '.',
    '--outDir',
    'dist',
  ]
  await run([join(checkout, 'node_modules/.bin/tsc'), ...options, ...emit, 'index.ts', 'cli.ts'], workshop)
  const dist = join(workshop, 'dist')
  const manifest = {
    name: 'portico-notes',
    version: '1.0.0',
    type: 'module',
    exports: { types: './index.d.ts', default: './index.js' },
    peerDependencies: { portico: '*' },
  }
  writeFileSync(join(dist, 'package.json'), JSON.stringify(manifest))
  cpSync(join(workshop, 'migrations'), join(dist, 'migrations'), { recursive: true })
  await run(['npm', 'pack', '--silent', '--pack-destination', workshop], dist)
  const place = join(byPackage, 'node_modules/portico-notes')
  mkdirSync(place, { recursive: true })
  await run(['tar', 'xzf', join(workshop, 'portico-notes-1.0.0.tgz'), '--strip-components=1', '-C', place], workshop)
  expect(existsSync(join(place, 'index.js'))).toBe(true)
}, 120_000)

describe.each(runtimes)('on %s', (runtime) => {
  test.each([
    ['by its path', () => ({ plugin: byPath, configs: root })],
    ['as a package', () => ({ plugin: 'portico-notes', configs: byPackage })],
  ] as const)(
    '%s: its route, socket, event, subscription, config, tables, slot item and command',
    async (_, where) => {
      const { plugin, configs } = where()
      // The config's folder is where packages are looked for.
      const folder = mkdtempSync(join(configs, 'gateway-'))
      const file = join(folder, 'portico.toml')
      writeFileSync(file, `plugins = [${JSON.stringify(plugin)}]\n[notes]\nlongest = 5\n`)
      const dataDir = join(folder, 'data')
      const start = () => spawnGateway({ runtime, dataDir, args: ['--config', file] })
      let gateway = await start()
      try {
        const post = (text: string) =>
          gateway.fetch('/notes', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ text }) })
        const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/notes/live`, { headers: { authorization: `Bearer ${gateway.token}` } } as never)
        const heard: unknown[] = []
        socket.onmessage = ({ data }) => void heard.push(JSON.parse(data as string))
        await new Promise((resolve) => {
          socket.onopen = resolve
        })
        expect([(await post('bread')).status, (await post('too long')).status, (await post('')).status]).toEqual([201, 413, 400])
        await until(() => heard.length > 0)
        expect(heard).toEqual([{ id: 1, owner: expect.any(String) }])
        socket.close()
        expect(await (await gateway.fetch('/metrics')).text()).toMatch(/notes_added(_total)? 1/)
        const command = (...words: string[]) => runPortico(['notes', ...words, '--config', file, '--data-dir', dataDir, '--json'], { runtime, cwd: folder })
        expect(JSON.parse((await command('add', 'milk')).stdout)).toEqual({ id: 2, text: 'milk' })

        await gateway.stop()
        gateway = await start()
        expect(JSON.parse((await command('list')).stdout)).toEqual([
          { id: 1, text: 'bread' },
          { id: 2, text: 'milk' },
        ])
        const { plugins } = (await (await gateway.fetch('/api/plugins')).json()) as { plugins: { id: string; from: string; state: string }[] }
        expect(plugins.find(({ id }) => id === 'notes')).toMatchObject({ from: plugin, state: 'ready' })
      } finally {
        await gateway.stop()
      }
    },
    60_000,
  )
})

test('it passes its own tests, the contract suite among them', async () => {
  const said = await run([join(checkout, 'node_modules/.bin/bun'), 'test', '--timeout=60000'], byPath)
  expect(said).toMatch(/5 pass/)
}, 120_000)
