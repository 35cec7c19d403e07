/** `portico doctor`: looks at everything that keeps a gateway from running well, and says what mends it. Changes nothing. */
import { existsSync } from 'node:fs'
import { access, constants, readFile, stat, statfs } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { type CommandContext, defineCommand, type JsonSchema } from 'portico'

/** What one look found. */
interface Finding {
  readonly check: string
  readonly state: 'ok' | 'warning' | 'problem'
  readonly what: string
  /** A command, or a sentence. */
  readonly mend?: string
}

const lowSpace = 500 * 1024 * 1024

export default defineCommand({
  summary: 'Say what is wrong, and the command that mends it; exit code 1 when there is a problem',
  examples: ['portico doctor', 'portico doctor --json', 'portico doctor --config /etc/portico/portico.toml'],
  async run(context) {
    const findings = await examine(context)
    const marks = { ok: 'ok     ', warning: 'warning', problem: 'PROBLEM' }
    const lines = findings.map(({ check, state, what, mend }) => `${marks[state]}  ${check}: ${what}${mend === undefined ? '' : `\n         → ${mend}`}`)
    const worst = findings.some(({ state }) => state === 'problem') ? 1 : 0
    context.print({ ok: worst === 0, findings }, lines.join('\n'))
    return worst
  },
})

async function examine(context: CommandContext): Promise<Finding[]> {
  const { file, dataDir, problems, warnings, values } = await context.plan()
  const type = commandsOf(context)
  const config: Finding[] = [
    ...problems.map(
      ({ text }): Finding => ({
        check: 'config',
        state: 'problem',
        what: text,
        mend: `correct ${file ?? 'the environment or the flags'}, then: ${type('config check')}`,
      }),
    ),
    ...warnings.map((what): Finding => ({ check: 'config', state: 'warning', what, mend: `chmod 600 ${quoted(file ?? '')}` })),
  ]
  if (config.length === 0) config.push({ check: 'config', state: 'ok', what: file ?? 'no file: the defaults' })
  const lastGood = join(dataDir, 'config.last-good.toml')
  if (problems.length > 0 && file !== null && existsSync(lastGood)) {
    // Not as another --config: its relative paths are the file's.
    const mend = `cp ${quoted(file)} ${quoted(`${file}.broken`)} && cp ${quoted(lastGood)} ${quoted(file)}`
    config.push({ check: 'config', state: 'warning', what: 'the last config that worked is kept', mend })
  }
  const sound = problems.length === 0
  const place = await folder(dataDir, type)
  if (!sound || place.some(({ state }) => state === 'problem')) return [runtime(), ...config, ...place]
  return [runtime(), ...config, ...place, ...(await database(dataDir, values)), ...(await gateway({ context, values, dataDir, type }))]
}

/** Writes a command as it has to be typed to mean the same gateway. */
type Typing = (command: string) => string

function commandsOf({ args }: CommandContext): Typing {
  const flag = (name: string, value: unknown) => (typeof value === 'string' ? ` --${name} ${quoted(value)}` : '')
  return (command) => {
    const folder = command.includes('--data-dir') ? '' : flag('data-dir', args.dataDir)
    return `portico ${command}${flag('config', args.config)}${folder}`
  }
}

/** As one word of a shell. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function runtime(): Finding {
  const { bun, deno } = process.versions as { bun?: string; deno?: string }
  const name = bun ? `Bun ${bun}` : `Deno ${deno}`
  if (bun && !process.env.BUN_CONFIG_MAX_HTTP_REQUESTS)
    return { check: 'runtime', state: 'ok', what: `${name}; start sets BUN_CONFIG_MAX_HTTP_REQUESTS itself, so that more than 256 calls can be under way` }
  return { check: 'runtime', state: 'ok', what: name }
}

async function folder(dataDir: string, type: Typing): Promise<Finding[]> {
  const check = 'data folder'
  const found = await stat(dataDir).catch(() => null)
  if (!found) return [{ check, state: 'ok', what: `${dataDir} is made at the first start` }]
  const findings: Finding[] = []
  if (!found.isDirectory()) return [{ check, state: 'problem', what: `${dataDir} is no folder`, mend: type('start --data-dir FOLDER') }]
  if ((found.mode & 0o077) !== 0) findings.push({ check, state: 'warning', what: `others can look into ${dataDir}`, mend: `chmod 700 ${quoted(dataDir)}` })
  if (
    await access(dataDir, constants.W_OK).then(
      () => false,
      () => true,
    )
  )
    // biome-ignore format: short
    findings.push({ check, state: 'problem', what: `${dataDir} cannot be written to`, mend: `chown -R "$(id -u)" ${quoted(dataDir)}` })
  const { bavail, bsize } = await statfs(dataDir)
  const free = bavail * bsize
  const what = `${Math.round(free / 1024 / 1024)} MB are free on its disk`
  findings.push(
    free < lowSpace
      ? { check, state: 'problem', what, mend: 'make space: without it nothing can be stored' }
      : { check, state: 'ok', what: `${dataDir}; ${what}` },
  )
  return findings
}

async function database(dataDir: string, values: JsonSchema): Promise<Finding[]> {
  const check = 'database'
  if ((values.database as { url?: string } | undefined)?.url !== undefined)
    return [{ check, state: 'ok', what: 'PostgreSQL, by database.url; the gateway says below whether it answers' }]
  const version = await readFile(join(dataDir, 'db', 'data', 'PG_VERSION'), 'utf8').catch(() => undefined)
  return [{ check, state: 'ok', what: version === undefined ? 'embedded, made at the first start' : `embedded, PostgreSQL ${version.trim()}` }]
}

interface Look {
  readonly context: CommandContext
  readonly values: JsonSchema
  readonly dataDir: string
  readonly type: Typing
}

/** The running gateway, or the same app in this process: either says how its parts are. */
async function gateway({ context, values, dataDir, type }: Look): Promise<Finding[]> {
  const { host, port } = values.gateway as { host: string; port: number }
  const isTaken = port !== 0 && !(await isRunning(dataDir)) && (await answers(host, port))
  const what = `another process listens on ${host}:${port}`
  const taken: Finding[] = isTaken ? [{ check: 'gateway', state: 'problem', what, mend: `stop it, or: ${type('start --port 0')}` }] : []
  try {
    const status = await context.request<{ components: Record<string, string>; plugins: { id: string; state: string; reason?: string }[] }>(
      'GET',
      '/api/v1/status',
    )
    const components = Object.entries(status.components).map(
      ([name, state]): Finding => ({ check: name, state: state === 'ok' ? 'ok' : state === 'down' ? 'problem' : 'warning', what: state }),
    )
    const broken = status.plugins.filter(({ state }) => state === 'failed' || state === 'blocked')
    const plugins = broken.map(
      ({ id, state, reason }): Finding => ({
        check: `plugin ${id}`,
        state: 'problem',
        what: `${state}: ${reason ?? 'its log says why'}`,
        mend: `mend it, then: ${type(`plugins reload ${id}`)} ; or leave it out: ${type(`plugins disable ${id}`)}`,
      }),
    )
    return [...taken, ...components, ...plugins]
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    return [...taken, { check: 'gateway', state: 'problem', what: message, mend: `${type('start')} shows it in full` }]
  }
}

/** Whether a gateway has this folder. */
async function isRunning(dataDir: string): Promise<boolean> {
  try {
    process.kill(JSON.parse(await readFile(join(dataDir, 'run.json'), 'utf8')).pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, timeout: 1_000 })
    const end = (is: boolean) => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false)).once('timeout', () => end(false)) // biome-ignore format: short
  })
}
