/** Commands that a plugin adds to the `portico` command. Known without set-up, so that `--help` opens no database. */
import type { ConfigSection } from '../contract/kernel-service.ts'
import type { JsonSchema } from '../contract/schema.ts'

/** A flag or positional of a command. */
export interface CommandArgument {
  readonly type: 'string' | 'boolean' | 'positional'
  readonly summary: string
  readonly required?: boolean
  readonly default?: string | boolean
  readonly alias?: string
  /** Shown for a value: `--limit <n>`. */
  readonly hint?: string
  /** May be given more than once: `args.NAME` is then a list. */
  readonly multiple?: boolean
}

/** What the config and the descriptors say, before anything is started. */
export interface CommandPlan {
  /** The config file; null when there is none. */
  readonly file: string | null
  readonly dataDir: string
  /** What is allowed, but should be mended. */
  readonly warnings: readonly string[]
  /** Everything that would keep the gateway from starting, as data and as one line. */
  readonly problems: readonly { readonly where: string; readonly key?: string; readonly what: string; readonly text: string }[]
  /** The values, secrets redacted. */
  readonly values: JsonSchema
  /** What may stand in the config file. */
  readonly sections: readonly ConfigSection[]
}

/** What a command runs with. `--json` and `--help` are the CLI's own. */
export interface CommandContext {
  readonly args: Readonly<Record<string, string | boolean | readonly string[] | undefined>>
  /** True with `--json`: print nothing but one JSON value (or one per line when streaming). */
  readonly json: boolean
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  /** Calls the gateway: the running one over HTTP, else the same app in process. A status ≥ 400 throws the envelope's error. */
  request<T = unknown>(method: string, path: string, body?: unknown): Promise<T>
  /** The same, raw: for streams. */
  fetch(path: string, init?: RequestInit): Promise<Response>
  /** Reads the config and the plugins' descriptors, without a database and without the running gateway. */
  plan(): Promise<CommandPlan>
  /** Reads a plugin's descriptor in a process of its own, which runs the module's top level. NAME: a built-in id, a path or a package. */
  inspect(name: string): Promise<JsonSchema>
  /** Writes to stdout: with `--json` the value as JSON, else the text. */
  print(value: unknown, text?: string): void
  /** Writes a note to stderr, not with `--json`. */
  note(text: string): void
}

/** A command, or a group of them. */
export interface Command {
  readonly summary: string
  readonly args?: Readonly<Record<string, CommandArgument>>
  /** Whole command lines, shown by `--help`. */
  readonly examples?: readonly string[]
  readonly commands?: Readonly<Record<string, Command>>
  /** Resolves to the exit code; nothing is 0. */
  run?(context: CommandContext): Promise<number | undefined | void>
}

/** What a descriptor says of a command; `load` is called when it is used. */
export interface CommandRef {
  readonly name: string
  readonly summary: string
  load(): Promise<{ default: Command }>
}

/** Types a command. */
export function defineCommand(command: Command): Command {
  return command
}

/** Rows in columns for a person: each as wide as its widest cell, two blanks between. The first row is the head. */
export function toTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const toLine = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
  return rows.map((row) => toLine(row).trimEnd()).join('\n')
}
