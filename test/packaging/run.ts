/**
 * The slow combinations of installing and starting, by hand: `bun test/packaging/run.ts [words of a row's name]`. Each installs the tarball into an empty folder, starts the gateway, makes a key,
 * stops it and looks whether it drained, with which exit code, and whether anything is left. Needs the registry. Exits with 1 when a row fails.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { runtimePath } from '../fixtures/gateway-process.ts'
import { startInstalled } from '../fixtures/installed.ts'
import { packedPortico } from '../fixtures/package.ts'
import { root } from '../rules/source.ts'

interface Row {
  readonly name: string
  /** Run in the empty folder; TARBALL is put in. */
  readonly install: readonly string[]
  readonly start: readonly string[]
  /** How it is ended; `keyboard` = Ctrl-C on its terminal. */
  readonly by: 'SIGTERM' | 'SIGINT' | 'SIGKILL' | 'keyboard'
  readonly code: number
}

const npm = (version: string, ...more: string[]) => ['npx', '-y', `npm@${version}`, 'install', '--no-audit', '--no-fund', ...more]
const command = ['node_modules/.bin/portico']
const node24 = ['node_modules/node/bin/node', 'node_modules/portico/bin/portico.js']
const pnpm = ['npx', '-y', 'pnpm@10.18.0']
const rows: readonly Row[] = [
  { name: 'npm 11, command', install: [...npm('11.6.0'), 'TARBALL'], start: command, by: 'SIGTERM', code: 0 },
  { name: 'npm 11, command on a terminal', install: [...npm('11.6.0'), 'TARBALL'], start: command, by: 'keyboard', code: 0 },
  { name: 'npm 10, command', install: [...npm('10.9.3'), 'TARBALL'], start: command, by: 'SIGINT', code: 0 },
  { name: 'npm 10 without scripts, command killed', install: [...npm('10.9.3', '--ignore-scripts'), 'TARBALL'], start: command, by: 'SIGKILL', code: 137 },
  { name: 'npm 11, npx', install: [...npm('11.6.0'), 'TARBALL'], start: ['npx', 'portico'], by: 'SIGTERM', code: 143 },
  { name: 'npm 11, npx on a terminal', install: [...npm('11.6.0'), 'TARBALL'], start: ['npx', 'portico'], by: 'keyboard', code: 130 },
  { name: 'Node 24, command', install: [...npm('11.6.0'), 'TARBALL', 'node@24.8.0'], start: node24, by: 'SIGTERM', code: 0 },
  { name: 'Node 24, command on a terminal', install: [...npm('11.6.0'), 'TARBALL', 'node@24.8.0'], start: node24, by: 'keyboard', code: 0 },
  { name: 'pnpm exec on a terminal', install: [...pnpm, 'add', 'TARBALL'], start: [...pnpm, 'exec', 'portico'], by: 'keyboard', code: 130 },
  { name: 'pnpm, command', install: [...pnpm, 'add', 'TARBALL'], start: command, by: 'SIGTERM', code: 0 },
  { name: 'pnpm, command on a terminal', install: [...pnpm, 'add', 'TARBALL'], start: command, by: 'keyboard', code: 0 },
  { name: 'bun, command on Node', install: [runtimePath('bun'), 'add', 'TARBALL'], start: command, by: 'SIGTERM', code: 0 },
  { name: 'bun, by bun run', install: [runtimePath('bun'), 'add', 'TARBALL'], start: [runtimePath('bun'), 'run', '--bun', 'portico'], by: 'keyboard', code: 0 },
  {
    name: 'bun, by Deno on a terminal',
    install: [runtimePath('bun'), 'add', 'TARBALL'],
    start: [runtimePath('deno'), 'run', '-A', ...command],
    by: 'keyboard',
    code: 0,
  },
]

const tarball = await packedPortico()
const wanted = process.argv.slice(2)
let failed = 0
for (const row of rows.filter(({ name }) => wanted.every((word) => name.includes(word)))) {
  const folder = await mkdtemp(join(tmpdir(), 'portico-packaging-'))
  try {
    console.log(`ok    ${row.name}: ${await attempt(row, folder)}`)
  } catch (error) {
    failed++
    console.log(`FAIL  ${row.name}: ${error instanceof Error ? error.message : error}`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
process.exit(failed > 0 ? 1 : 0)

async function attempt({ install, start, by, code }: Row, folder: string): Promise<string> {
  const [program, ...args] = install.map((word) => (word === 'TARBALL' ? tarball : word))
  const began = performance.now()
  await promisify(execFile)(program as string, args, { cwd: folder, maxBuffer: 16 * 2 ** 20 })
  const installed = performance.now()
  await using gateway = await startInstalled({ command: start, folder, terminal: by === 'keyboard' })
  const ready = performance.now()
  const { key } = JSON.parse(await gateway.run('keys', 'create', 'first', '--json')) as { key: string }
  const models = await fetch(`${gateway.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })
  if (!(await models.text()).includes('demo/echo')) throw new Error('it does not list its demo model')
  if (by === 'keyboard') gateway.pressCtrlC()
  else gateway.kill(by)
  const got = await gateway.exited
  await gateway.gone()
  if (got !== code) throw new Error(`exit code ${got} instead of ${code}\n${gateway.output.slice(-500)}`)
  const left = await readFile(join(gateway.home, '.local/share/portico/run.json'), 'utf8').catch(() => undefined)
  if (left !== undefined) throw new Error('the gateway did not stop in peace: its run.json is still there')
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
  return `portico ${version} installed in ${seconds(installed - began)}, ready in ${seconds(ready - installed)}, ended by ${by} with ${got}`
}
