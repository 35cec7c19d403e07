/** The gateway of the benchmark: the real command, as a user starts it, with a real key. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../kernel/cli/main.ts', import.meta.url))
const bootToken = 'bench-boot-token-that-is-long-enough-0001'

/** A running gateway. */
export interface BenchGateway {
  readonly url: string
  /** ms from the spawn to ready. */
  readonly startedIn: number
  stop(): Promise<void>
}

/** A folder that ends with the row. */
export async function temporaryFolder(scope: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'portico-bench-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Starts `portico start` on the data folder; resolves when `run.json` is there, which the gateway writes once it is ready and listens (deadline 60 s). */
export async function startGateway(dataDir: string, config = ''): Promise<BenchGateway> {
  const file = join(dataDir, 'bench.toml')
  const runFile = join(dataDir, 'run.json')
  await writeFile(file, config, { mode: 0o600 })
  const at = performance.now()
  const env = { ...process.env, PORTICO_TOKEN: bootToken, BUN_CONFIG_MAX_HTTP_REQUESTS: '4096' }
  const child = spawn(process.execPath, [main, 'start', '--port', '0', '--data-dir', dataDir, '--config', file], { stdio: ['ignore', 'pipe', 'pipe'], env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  }
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
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
  return { url, startedIn, stop }
}

/** Makes a key as an administrator would. */
export async function createKey(url: string): Promise<string> {
  const headers = { authorization: `Bearer ${bootToken}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/api/keys`, { method: 'POST', headers, body: JSON.stringify({ name: 'bench' }) })
  const body = (await answer.json()) as { key?: string }
  if (!body.key) throw new Error(`no key: ${answer.status} ${JSON.stringify(body)}`)
  return body.key
}

/** A gateway in front of the mock upstream, for the rows that load it. Its model is `bench/mock`. */
export async function gatewayBefore(scope: AsyncDisposableStack, upstream: string): Promise<{ url: string; key: string }> {
  const config = `[models.providers.bench]\ntype = "openai-compatible"\nbaseUrl = "${upstream}"\napiKey = "upstream"\n`
  const gateway = await startGateway(await temporaryFolder(scope), config)
  scope.defer(gateway.stop)
  return { url: gateway.url, key: await createKey(gateway.url) }
}
