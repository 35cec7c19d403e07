/** Reads a command line strictly: every word is a command, a flag the command knows, or an argument it takes. */

import { nearestName } from '../contract/problem.ts'
import type { Command, CommandArgument } from './command.ts'

/** The caller wrote something that is no command line of ours: exit code 2. */
export class UsageError extends Error {
  /** The commands that were understood, e.g. `['keys', 'create']`. */
  readonly path: readonly string[]
  constructor(message: string, path: readonly string[]) {
    super(message)
    this.path = path
  }
}

/** Values by argument name. */
export type Arguments = Record<string, string | boolean | readonly string[] | undefined>

/** A command line, understood. */
export interface CommandLine {
  readonly path: readonly string[]
  /** The command; null = none was named. */
  readonly command: Command | null
  readonly args: Arguments
}

/** Flags that every command takes, besides its own. */
export const globalFlags: Readonly<Record<string, CommandArgument>> = {
  config: { type: 'string', summary: 'The config file (default ./portico.toml)', hint: 'file' },
  dataDir: { type: 'string', summary: 'The data folder (default ~/.local/share/portico)', hint: 'folder' },
  json: { type: 'boolean', summary: 'Print JSON, and nothing else, to stdout' },
  help: { type: 'boolean', summary: 'Show this help', alias: 'h' },
}

/** Flags of the bare `portico`. */
export const rootFlags: Readonly<Record<string, CommandArgument>> = { version: { type: 'boolean', summary: 'Show the version', alias: 'v' } }

/** Where top-level commands come from. */
export interface CommandSource {
  find(name: string): Promise<Command | undefined>
  names(): Promise<readonly string[]>
}

/** `dataDir` → `--data-dir`. */
export function toFlag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

/** Understands a command line, or throws a `UsageError` that names what is wrong and the nearest that is right. */
export async function parseCommandLine(words: readonly string[], source: CommandSource): Promise<CommandLine> {
  const path: string[] = []
  const args: Arguments = {}
  const free: string[] = []
  let command: Command | null = null
  let onlyArguments = false
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word === '--' && !onlyArguments) onlyArguments = true
    else if (!onlyArguments && word.startsWith('-') && word !== '-') {
      const flag = findFlag(word, command, path)
      if (flag.argument.type === 'boolean') args[flag.name] = true
      else {
        const value = flag.inline ?? words[++index]
        if (value === undefined || value === '' || (flag.inline === undefined && value.startsWith('-') && value !== '-'))
          throw new UsageError(`${toFlag(flag.name)} needs a value: ${toFlag(flag.name)} <${flag.argument.hint ?? 'value'}>`, path)
        setValue(args, flag.name, value, { multiple: flag.argument.multiple === true, path })
      }
    } else if (command === null || (command.commands && free.length === 0)) {
      const next: Command | undefined = command === null ? await source.find(word) : own(command.commands, word)
      if (!next) throw unknownCommand(word, command === null ? await source.names() : Object.keys(command.commands ?? {}), path)
      path.push(word)
      command = next
    } else free.push(word)
  }
  takeFree(command, free, args, path)
  if (command?.run && !args.help) demand(command, args, path)
  return { path, command, args }
}

interface FoundFlag {
  readonly name: string
  readonly argument: CommandArgument
  readonly inline: string | undefined
}

function findFlag(word: string, command: Command | null, path: readonly string[]): FoundFlag {
  const [written = '', ...rest] = word.split('=')
  const inline = rest.length > 0 ? rest.join('=') : undefined
  const flags = Object.entries({ ...globalFlags, ...(command === null ? rootFlags : {}), ...command?.args }).filter(([, { type }]) => type !== 'positional')
  for (const [name, argument] of flags) {
    if (written !== toFlag(name) && !(argument.alias !== undefined && written === `-${argument.alias}`)) continue
    if (argument.type === 'boolean' && inline !== undefined) throw new UsageError(`${toFlag(name)} takes no value`, path)
    return { name, argument, inline }
  }
  const names = flags.map(([name]) => toFlag(name))
  throw new UsageError(`unknown flag ${written}${hint(nearestName(written, names))}`, path)
}

function setValue(args: Arguments, name: string, value: string, { multiple, path }: { multiple: boolean; path: readonly string[] }): void {
  const before = args[name]
  if (multiple) args[name] = [...(Array.isArray(before) ? before : []), value]
  else if (before !== undefined) throw new UsageError(`${toFlag(name)} is given twice`, path)
  else args[name] = value
}

function takeFree(command: Command | null, free: readonly string[], args: Arguments, path: readonly string[]): void {
  const slots = Object.entries(command?.args ?? {}).filter(([, { type }]) => type === 'positional')
  const left = [...free]
  for (const [name, { multiple }] of slots) {
    if (multiple) args[name] = left.splice(0)
    else if (left.length > 0) args[name] = left.shift()
  }
  if (left.length > 0) throw new UsageError(`unexpected argument ${JSON.stringify(left[0])}`, path)
}

function demand(command: Command, args: Arguments, path: readonly string[]): void {
  for (const [name, argument] of Object.entries(command.args ?? {})) {
    if (args[name] === undefined && argument.default !== undefined) args[name] = argument.default
    if (argument.required && (args[name] === undefined || (Array.isArray(args[name]) && args[name].length === 0)))
      throw new UsageError(`${argument.type === 'positional' ? name.toUpperCase() : toFlag(name)} is missing: ${argument.summary}`, path)
  }
}

function unknownCommand(word: string, known: readonly string[], path: readonly string[]): UsageError {
  return new UsageError(`unknown command ${[...path, word].join(' ')}${hint(nearestName(word, known))}`, path)
}

const hint = (nearest: string | undefined): string => (nearest === undefined ? '' : `; did you mean ${nearest}?`)

function own<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record && Object.hasOwn(record, key) ? record[key] : undefined
}
