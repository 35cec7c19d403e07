/** Child processes of the benchmark: baselines, the mock upstream, clients, wrk. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type RuntimeName, runtimePath } from '../fixtures/gateway-process.ts'

const run = promisify(execFile)

/** A child that said its first line. */
export interface Child {
  readonly firstLine: string
  readonly pid: number
  /** Writes a line, and gives the line that answers it (60 s). */
  ask(line: string): Promise<string>
  /** True once it is gone. */
  isOver(): boolean
  stop(): Promise<void>
}

/** The command line that runs a script of the project; with `files` it may open so many, where the system allows it. */
export function commandLine(runtime: RuntimeName, script: string, args: readonly string[] = [], files?: number): [string, string[]] {
  const line = [runtimePath(runtime), ...(runtime === 'deno' ? ['run', '-A'] : []), script, ...args]
  if (files === undefined) return [line[0] as string, line.slice(1)]
  return ['sh', ['-c', `ulimit -n ${files} 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"`, 'sh', ...line]]
}

/** Starts a script of this folder, and waits (30 s) for its first line: the URL, or `ready`. */
export async function startScript(scope: AsyncDisposableStack, runtime: RuntimeName, script: string, args: readonly string[] = []): Promise<Child> {
  const [command, line] = commandLine(runtime, fileURLToPath(new URL(script, import.meta.url)), args, 30_000)
  const env = { ...process.env, BUN_CONFIG_MAX_HTTP_REQUESTS: '4096' }
  const child = spawn(command, line, { stdio: ['pipe', 'pipe', 'inherit'], env })
  const lines = createInterface(child.stdout)
  const ended = endOf(child)
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  scope.defer(stop)
  const next = (ms: number) =>
    new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${script} said nothing within ${ms / 1000} s`)), ms)
      lines.once('line', (said) => {
        clearTimeout(timer)
        resolve(said)
      })
      void ended.then(() => reject(new Error(`${script} ended with ${child.exitCode ?? child.signalCode} before it said anything`)))
    })
  const firstLine = await next(30_000)
  const ask = (words: string) => {
    const answer = next(60_000)
    child.stdin.write(`${words}\n`)
    return answer
  }
  return { firstLine, pid: child.pid ?? 0, ask, stop, isOver: () => child.exitCode !== null || child.signalCode !== null }
}

/** Resolves when the child is gone. */
export function endOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

/** The physical memory a process has now, MB. Linux. */
export async function residentMb(pid: number): Promise<number> {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes) / 1024
}

/** The processor time a process has used, seconds, to a hundredth. Linux. */
export async function cpuSeconds(pid: number): Promise<number> {
  // After the name in brackets: state is the third field, user and system time are the 14th and 15th.
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ').at(-1)?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** One load. */
export interface LoadOptions {
  readonly url: string
  readonly connections: number
  readonly seconds: number
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Asked in turn, instead of the URL's own. */
  readonly paths?: readonly string[]
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
  const env = { ...process.env, BENCH_METHOD: options.method ?? 'GET', BENCH_BODY: options.body ?? '', BENCH_PATHS: options.paths?.join(' ') ?? '' }
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

/** `Bun 1.4.5`, `Deno 2.9.6`. */
export async function runtimeVersion(runtime: RuntimeName): Promise<string> {
  if (runtime === 'bun') return `Bun ${Bun.version}`
  const { stdout } = await run(runtimePath('deno'), ['--version'])
  return `Deno ${/^deno (\S+)/.exec(stdout)?.[1]}`
}
