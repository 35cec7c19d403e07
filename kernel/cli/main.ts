#!/usr/bin/env bun
/** The `portico` command: gives the command line the process it runs in. */
import { commandName } from './command-name.ts'
import { runCli } from './run.ts'
import { isAlive } from './running.ts'

/** What stands between the user and this process, and whose end it is to end with: `tool`, as npx is, or `shim` (set by deploy/npm/portico.js). */
const [behind, behindPid] = process.env._PORTICO_BEHIND?.split(' ') ?? []
const isBehindTool = behind === 'tool'
/** ms in which such a tool hands on a signal that the terminal has sent already. */
const echo = 500

const stop = new AbortController()
let stoppedAt = 0
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The second one does not wait: whoever sends it has waited long enough.
    if (stop.signal.aborted && !(isBehindTool && Date.now() - stoppedAt < echo)) process.exit(1)
    stoppedAt ||= Date.now()
    stop.abort()
  })
}
if (behindPid) stopWithParent(Number(behindPid))

const script = process.argv[1] ?? ''
const inCheckout = import.meta.url.endsWith('.ts')
const { bun, deno } = process.versions
const code = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
  color: process.stdout.isTTY === true && process.stderr.isTTY === true && !process.env.NO_COLOR,
  name: commandName({
    ...{ inCheckout, isBehindTool, path: process.env.PATH ?? '' },
    ...(deno ? { runtime: 'deno', version: deno } : { runtime: 'bun', version: bun ?? '' }),
  }),
  signal: stop.signal,
  restart: restartInPlace(),
})
// A worker or an idle connection would keep the process; whatever had to be written is.
process.stdout.write('', () => process.exit(code))

/** A tool that is killed, or stopped without handing it on, must not leave a gateway that nobody knows of. */
function stopWithParent(pid: number): void {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid !== parent || !isAlive(pid)) stop.abort()
  }, 500)
  timer.unref()
}

function restartInPlace(): ((env: Record<string, string>) => void) | undefined {
  const { execve } = process as { execve?(file: string, args: readonly string[], env: NodeJS.ProcessEnv): never }
  if (typeof execve !== 'function') return undefined
  return (env) => execve.call(process, process.execPath, [process.execPath, ...process.execArgv, script, ...process.argv.slice(2)], { ...process.env, ...env })
}
