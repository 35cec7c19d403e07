/** `portico status`: what runs on the data folder. Never starts anything. */
import { readConfig } from '../config/index.ts'
import type { Command } from './command.ts'
import { columns } from './help.ts'
import type { KernelCommandContext } from './run.ts'
import { findRunning } from './running.ts'

interface Status {
  readonly version: string
  readonly runtime: string
  readonly uptime: number
  readonly components: Readonly<Record<string, string>>
  readonly plugins: readonly { id: string; state: string; reason?: string }[]
}

/** The command. Exit code 1 when nothing runs there. */
export const statusCommand: Command = {
  summary: 'Show whether a gateway runs on the data folder, where, and how it is; exit code 1 when none does',
  examples: ['portico status', 'portico status --json', 'portico status --data-dir ./data'],
  run: (context) => run(context as KernelCommandContext),
}

async function run({ args, cli, print, request, style }: KernelCommandContext): Promise<number> {
  const text = (name: string) => (typeof args[name] === 'string' ? args[name] : undefined)
  const { dataDir } = readConfig({ flags: { config: text('config'), dataDir: text('dataDir') }, env: cli.env, cwd: cli.cwd })
  const running = findRunning(dataDir)
  if (!running) {
    print({ running: false, dataDir }, `No gateway is running on ${dataDir}. Start it: ${cli.name} start`)
    return 1
  }
  const { url, pid, startedAt } = running
  const status = await request<Status>('GET', '/api/v1/status')
  const broken = status.plugins.filter(({ state }) => state !== 'ready')
  const lines = columns([
    ['  Listening', url],
    ['  Process', `${pid}, since ${startedAt} (${duration(status.uptime)})`],
    ['  Data', dataDir],
    ...Object.entries(status.components).map(([name, state]) => [`  ${name[0]?.toUpperCase()}${name.slice(1)}`, state] as const),
    ['  Ready', `${status.plugins.length - broken.length} of ${status.plugins.length} plugins`],
    ...broken.map(({ id, state, reason }) => [`  ${id}`, `${state}${reason === undefined ? '' : `: ${reason}`}`] as const),
  ])
  print({ running: true, url, pid, dataDir, ...status, startedAt }, [`${style.bold(`Portico ${status.version}`)} on ${status.runtime}`, ...lines].join('\n'))
  return 0
}

function duration(seconds: number): string {
  const units = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
  ] as const
  const unit = units.find(([size]) => seconds >= size)
  return unit ? `${Math.floor(seconds / unit[0])} ${unit[1]}` : `${Math.round(seconds)} s`
}
