/** The gateway of the benchmark: the real command, as a user starts it, with a real key. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RuntimeName } from '../fixtures/gateway-process.ts'
import { commandLine, endOf } from './process.ts'

const main = fileURLToPath(new URL('../../kernel/cli/main.ts', import.meta.url))
const bootToken = 'bench-boot-token-that-is-long-enough-0001'

/** A running gateway. */
export interface BenchGateway {
  readonly url: string
  readonly pid: number
  /** ms from the spawn to ready. */
  readonly startedIn: number
  /** Makes a key as an administrator would; without `scopes`, the usual ones. */
  createKey(scopes?: readonly string[]): Promise<string>
  stop(): Promise<void>
}

/** A folder that ends with the row. */
export async function temporaryFolder(scope: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'portico-bench-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** The config's line that loads plugins of this folder. */
export function withPlugins(...names: readonly string[]): string {
  return `plugins = ${JSON.stringify(names.map((name) => fileURLToPath(new URL(`./plugins/${name}.ts`, import.meta.url))))}\n`
}

/** Starts `portico start` on the data folder; resolves when `run.json` is there, which the gateway writes once it is ready and listens (deadline 60 s). */
export async function startGateway(runtime: RuntimeName, dataDir: string, config = ''): Promise<BenchGateway> {
  const file = join(dataDir, 'bench.toml')
  const runFile = join(dataDir, 'run.json')
  await writeFile(file, config, { mode: 0o600 })
  const at = performance.now()
  const env = { ...process.env, PORTICO_TOKEN: bootToken, BUN_CONFIG_MAX_HTTP_REQUESTS: '4096' }
  const [command, line] = commandLine(runtime, main, ['start', '--port', '0', '--data-dir', dataDir, '--config', file], 30_000)
  const child = spawn(command, line, { stdio: ['ignore', 'pipe', 'pipe'], env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-20_000)
    })
  }
  const ended = endOf(child)
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  while (!existsSync(runFile)) {
    await new Promise((resolve) => setTimeout(resolve, 1))
    if (child.exitCode !== null || performance.now() - at > 60_000) {
      await stop()
      throw new Error(`the gateway was not ready:\n${output}`)
    }
  }
  const startedIn = performance.now() - at
  const { url } = JSON.parse(await readFile(runFile, 'utf8')) as { url: string }
  const ready = await fetch(`${url}/health/ready`)
  if (!ready.ok) throw new Error(`the gateway says it is not ready: ${ready.status} ${await ready.text()}`)
  return { url, pid: child.pid ?? 0, startedIn, stop, createKey: (scopes) => createKey(url, scopes) }
}

async function createKey(url: string, scopes?: readonly string[]): Promise<string> {
  const headers = { authorization: `Bearer ${bootToken}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/api/keys`, { method: 'POST', headers, body: JSON.stringify({ name: 'bench', scopes }) })
  const body = (await answer.json()) as { key?: string }
  if (!body.key) throw new Error(`no key: ${answer.status} ${JSON.stringify(body)}`)
  return body.key
}

/** A gateway on a folder of its own, for the rows that load it. */
export async function freshGateway(scope: AsyncDisposableStack, runtime: RuntimeName, config = ''): Promise<BenchGateway & { key: string }> {
  const gateway = await startGateway(runtime, await temporaryFolder(scope), config)
  scope.defer(gateway.stop)
  return { ...gateway, key: await gateway.createKey() }
}

/** The config's section for the mock upstream. Its model is `bench/mock`. */
export function withUpstream(baseUrl: string): string {
  return `[models.providers.bench]\ntype = "openai-compatible"\nbaseUrl = "${baseUrl}"\napiKey = "upstream"\n`
}
