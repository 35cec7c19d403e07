#!/usr/bin/env node
/**
 * The installed `portico` command. Under Bun or Deno it is the gateway itself; under Node (20 or newer) it gives the process to the Bun that the package depends on.
 * Plain JavaScript: it must run before anything else is known to work.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const main = new URL('../kernel/cli/main.js', import.meta.url)
/** Bun reads it before anything runs, see kernel/cli/start. */
const fetchLimit = { BUN_CONFIG_MAX_HTTP_REQUESTS: process.env.BUN_CONFIG_MAX_HTTP_REQUESTS || '4096' }
/** The process of such a tool: the parent, or what the parent is a shell of. */
const tool = shellsParent(process.ppid) ?? process.ppid
/** Tells the gateway what stands between it and whoever started it, and the process with which it ends. */
const behindTool = { _PORTICO_BEHIND: `tool ${tool}` }
const behindThis = { _PORTICO_BEHIND: `shim ${process.pid}` }
/** Set by npm, pnpm and bun while they run a package's command or a script. */
const isBehindTool = Boolean(process.env.npm_command || process.env.npm_lifecycle_event || process.env.npm_execpath)

if (process.versions.bun || process.versions.deno) {
  if (isBehindTool) Object.assign(process.env, behindTool)
  await import(main.href)
} else {
  const bun = findBun()
  if (bun === undefined) fail()
  else run(bun, [fileURLToPath(main), ...process.argv.slice(2)])
}

/** @param {string} bun @param {string[]} args */
function run(bun, args) {
  const env = { ...process.env, ...fetchLimit, ...(isBehindTool && behindTool) }
  // The same process goes on as Bun: its id, its signals and its exit code are exact.
  if (typeof process.execve === 'function' && process.platform !== 'win32') process.execve(bun, [bun, ...args], env)
  const parent = process.ppid
  const child = spawn(bun, args, { stdio: 'inherit', env: { ...behindThis, ...env } })
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT']) {
    process.on(signal, () => {
      // On a terminal the keyboard's signals reach the whole group: the child has them already.
      const fromKeyboard = (signal === 'SIGINT' || signal === 'SIGQUIT') && (process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY)
      if (!fromKeyboard) child.kill(signal)
    })
  }
  // Whoever started this is gone and told nobody, as a shell is that npx was stopped with.
  const watch = setInterval(() => {
    if (isBehindTool && (process.ppid !== parent || !isAlive(tool))) child.kill('SIGTERM')
  }, 500)
  child.on('error', (error) => {
    console.error(`portico: Bun could not be started: ${error.message}`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    clearInterval(watch)
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/**
 * npm runs a command in `sh -c`, which outlives it when it is killed. Where there is no /proc that is not seen.
 * @param {number} pid
 */
function shellsParent(pid) {
  try {
    const [shell, option] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    if (!/(^|\/)(ba|da)?sh$/.test(shell ?? '') || option !== '-c') return undefined
    return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]) || undefined
  } catch {
    return undefined
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

/** The binary in the platform's own package: `bun/bin/bun.exe` is a stub until bun's install script has run, and those are often switched off. */
function findBun() {
  try {
    const manifest = createRequire(import.meta.url).resolve('bun/package.json')
    const beside = createRequire(manifest)
    const system = process.platform === 'win32' ? 'windows' : process.platform
    const prefix = `@oven/bun-${system}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`
    const isMusl = process.platform === 'linux' && !process.report.getReport().header.glibcVersionRuntime
    const names = Object.keys(JSON.parse(readFileSync(manifest, 'utf8')).optionalDependencies ?? {})
    const own = names.filter((name) => name === prefix || name.startsWith(`${prefix}-`)).sort((a, b) => score(b) - score(a))
    /** @param {string} name */
    function score(name) {
      return name.includes('musl') === isMusl ? 1 : 0
    }
    for (const name of own) {
      const found = fileOf(() => join(dirname(beside.resolve(`${name}/package.json`)), 'bin', process.platform === 'win32' ? 'bun.exe' : 'bun'))
      if (found) return found
    }
    const installed = join(dirname(manifest), 'bin', 'bun.exe')
    // The stub has a few hundred bytes.
    if (existsSync(installed) && statSync(installed).size > 1_000_000) return installed
  } catch {
    // No bun package at all: the caller says so.
  }
  return undefined
}

/** @param {() => string} find */
function fileOf(find) {
  try {
    const file = find()
    return existsSync(file) ? file : undefined
  } catch {
    return undefined
  }
}

function fail() {
  console.error(
    [
      'portico: there is no JavaScript runtime to run on: the Bun that comes with this package is not installed.',
      'Its binary is an optional dependency for this platform: install again without `--omit=optional` (or `--no-optional`),',
      'or start the gateway with a Bun or Deno of your own: `bun run --bun portico start`, `deno run -A npm:portico start`.',
    ].join('\n'),
  )
  process.exitCode = 1
}
