/** The top-level commands: `start` and `status` are the kernel's, the others come from the plugins' descriptors. */
import { builtins } from '../../plugins/builtins.ts'
import { type ConfigFlags, isSwitchedOff, type RawConfig, readConfig } from '../config/index.ts'
import { isPlugin } from '../contract/plugin.ts'
import type { Command, CommandRef } from './command.ts'
import type { ListedCommand } from './help.ts'
import type { CommandSource } from './parse.ts'

/** Where the config is, which says what plugins there are. */
export interface CommandOptions {
  readonly flags: ConfigFlags
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
}

/** All commands; a plugin's module is imported only until the wanted command is found. */
export interface Commands extends CommandSource {
  list(): Promise<readonly ListedCommand[]>
}

interface Entry extends ListedCommand {
  load(): Promise<Command>
}

const kernelCommands: readonly Entry[] = [
  { name: 'start', summary: 'Start the gateway', load: async () => (await import('./start.ts')).startCommand },
  { name: 'status', summary: 'Show what runs on the data folder', load: async () => (await import('./status.ts')).statusCommand },
]

/** Makes the list. `start` and `status` cost no plugin. */
export function createCommands(options: CommandOptions): Commands {
  const all = async (): Promise<Entry[]> => {
    const entries = new Map<string, Entry>()
    for await (const entry of entriesOf(options)) if (!entries.has(entry.name)) entries.set(entry.name, entry)
    return [...entries.values()]
  }
  return {
    async find(name) {
      for await (const entry of entriesOf(options)) if (entry.name === name) return await entry.load()
      return undefined
    },
    list: all,
    names: async () => (await all()).map(({ name }) => name),
  }
}

async function* entriesOf(options: CommandOptions): AsyncGenerator<Entry> {
  yield* kernelCommands
  const raw = readConfig(options)
  for (const [id, load] of Object.entries(builtins)) {
    if (!isSwitchedOff(raw, id)) yield* entriesIn(raw, load)
  }
  if (raw.plugins.length === 0) return
  const { importPlugin } = await import('../boot/load.ts')
  for (const specifier of raw.plugins) yield* entriesIn(raw, () => importPlugin(specifier, raw.baseDir))
}

async function* entriesIn(raw: RawConfig, load: () => Promise<{ default: unknown }>): AsyncGenerator<Entry> {
  let commands: readonly CommandRef[] = []
  try {
    const plugin = (await load()).default
    if (isPlugin(plugin) && !isSwitchedOff(raw, plugin.id)) commands = plugin.commands ?? []
  } catch {
    // A plugin that cannot be loaded has no commands; `start` and `config check` say why.
  }
  for (const { name, summary, load: loadCommand } of commands) yield { name, summary, load: async () => (await loadCommand()).default }
}
