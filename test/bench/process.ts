/** Child processes of the benchmark: baselines, the mock upstream, wrk. */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A child that said its first line. */
export interface Child {
  readonly firstLine: string
  stop(): Promise<void>
}

/** Starts a script of `servers/` on the runtime of the benchmark, and waits (10 s) for its first line: the URL, or `ready`. */
export async function startServer(scope: AsyncDisposableStack, script: string, args: readonly string[] = []): Promise<Child> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(`./servers/${script}`, import.meta.url)), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  scope.defer(stop)
  const firstLine = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve)
    child.once('exit', (code) => reject(new Error(`${script} ended with ${code} before it said anything`)))
    setTimeout(() => reject(new Error(`${script} said nothing within 10 s`)), 10_000).unref()
  })
  return { firstLine, stop }
}

/** One load. */
export interface LoadOptions {
  readonly url: string
  readonly connections: number
  readonly seconds: number
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** What wrk saw. */
export interface Load {
  readonly requestsPerSecond: number
  /** Median latency, ms. */
  readonly p50: number
}

/** Runs wrk. Throws when an answer was no 2xx or a connection failed: a fast error is no result. */
export async function load(options: LoadOptions): Promise<Load> {
  const script = fileURLToPath(new URL('./request.lua', import.meta.url))
  const args = ['-t1', `-c${options.connections}`, `-d${options.seconds}s`, '--latency', '--timeout', '10s', '-s', script]
  for (const [name, value] of Object.entries(options.headers ?? {})) args.push('-H', `${name}: ${value}`)
  const env = { ...process.env, BENCH_METHOD: options.method ?? 'GET', BENCH_BODY: options.body ?? '' }
  const { stdout } = await run(await wrkPath(), [...args, options.url], { env })
  const trouble = /Non-2xx[^\n]*|Socket errors[^\n]*/.exec(stdout)
  if (trouble) throw new Error(`${options.url}: ${trouble[0]}`)
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)
  const p50 = /50%\s+([\d.]+)(us|ms|s)/.exec(stdout)
  if (!rate || !p50) throw new Error(`wrk said something else:\n${stdout}`)
  return { requestsPerSecond: Number(rate[1]), p50: Number(p50[1]) * { us: 0.001, ms: 1, s: 1000 }[p50[2] as 'us' | 'ms' | 's'] }
}

const wrk = '/usr/bin/wrk'

async function wrkPath(): Promise<string> {
  if (existsSync(wrk)) return wrk
  try {
    return (await run('sh', ['-c', 'command -v wrk'])).stdout.trim()
  } catch {
    console.error('wrk is missing, installing it …')
  }
  try {
    await run('apt-get', ['update'])
    await run('apt-get', ['install', '-y', '--no-install-recommends', 'wrk'])
    return wrk
  } catch (error) {
    throw new Error('The benchmark loads with wrk, and apt-get could not install it: install the package `wrk` and run it again.', { cause: error })
  }
}

/** wrk's version. */
export async function wrkVersion(): Promise<string> {
  const said = await run(await wrkPath(), ['--version']).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }))
  return /wrk \S+ ?([\d.]+)?[^[]*/.exec(said.stdout)?.[0].trim() ?? 'wrk'
}
