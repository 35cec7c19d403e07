/** The text of `--help`. */
import type { Command, CommandArgument } from './command.ts'
import { globalFlags, rootFlags, toFlag } from './parse.ts'

/** Marks up text for a terminal, or leaves it as it is. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
}

/** Colours when `on`. */
export function createStyle(on: boolean): Style {
  const code = (open: number, close: number) => (text: string) => (on ? `\u001b[${open}m${text}\u001b[${close}m` : text)
  return { bold: code(1, 22), dim: code(2, 22), red: code(31, 39) }
}

/** One top-level command as the help lists it. */
export interface ListedCommand {
  readonly name: string
  readonly summary: string
}

/** Help of `portico` itself. */
export function rootHelp(commands: readonly ListedCommand[], style: Style): string {
  return sections(style, [
    ['', ['Portico: one gateway for AI agents.']],
    ['Usage', ['portico COMMAND [flags]']],
    ['Commands', columns(commands.map(({ name, summary }) => [name, summary]))],
    ['Flags', flagLines({ ...globalFlags, ...rootFlags })],
    ['Examples', ['portico start', 'portico keys create my-app', 'portico events tail --types "key:*"', 'portico config check --config ./portico.toml']],
    ['Environment', ['PORTICO_CONFIG  PORTICO_DATA_DIR  PORTICO_HOST  PORTICO_PORT  PORTICO_TOKEN (a bearer with all scopes); NO_COLOR']],
    ['Exit codes', exitCodes],
  ])
}

/** Help of one command, or of a group of them. */
export function commandHelp(path: readonly string[], command: Command, style: Style): string {
  const args = Object.entries(command.args ?? {})
  const free = args.filter(([, { type }]) => type === 'positional')
  const words = free.map(([name, { required, multiple }]) => {
    const word = `${name.toUpperCase()}${multiple ? '…' : ''}`
    return required ? word : `[${word}]`
  })
  const usage = ['portico', ...path, ...(command.commands ? ['COMMAND'] : words), '[flags]'].join(' ')
  return sections(style, [
    ['', [`${command.summary}.`]],
    ['Usage', [usage]],
    ['Commands', columns(Object.entries(command.commands ?? {}).map(([name, { summary }]) => [name, summary]))],
    ['Arguments', columns(free.map(([name, { summary }]) => [name.toUpperCase(), summary]))],
    ['Flags', flagLines(Object.fromEntries(args.filter(([, { type }]) => type !== 'positional')))],
    ['Global flags', flagLines(globalFlags)],
    ['Examples', [...(command.examples ?? Object.values(command.commands ?? {}).flatMap(({ examples }) => examples?.slice(0, 1) ?? []))]],
    ['Exit codes', exitCodes],
  ])
}

const exitCodes = ['0 done, 1 failed, 2 wrong usage']

function flagLines(flags: Readonly<Record<string, CommandArgument>>): string[] {
  return columns(
    Object.entries(flags).map(([name, { type, hint, alias, summary, multiple, required, default: preset }]) => [
      `${alias === undefined ? '' : `-${alias}, `}${toFlag(name)}${type === 'string' ? ` <${hint ?? 'value'}>` : ''}`,
      `${summary}${preset === undefined ? '' : ` (default ${preset})`}${multiple ? '; may be repeated' : ''}${required ? '; required' : ''}`,
    ]),
  )
}

/** Two columns, the first as wide as its widest entry. */
export function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`.trimEnd())
}

function sections(style: Style, parts: readonly (readonly [title: string, lines: readonly string[]])[]): string {
  return parts
    .filter(([, lines]) => lines.length > 0)
    .map(([title, lines]) => (title === '' ? lines.join('\n') : `${style.bold(title)}\n${lines.map((line) => `  ${line}`).join('\n')}`))
    .join('\n\n')
}
