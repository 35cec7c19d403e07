/** Reads what stands in the file, the environment and the flags. Knows no schema: `index.ts` checks the values. */
import { readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { parse, TomlError } from 'smol-toml'
import { sectionAliases } from '../../plugins/builtins.ts'
import { nearestName, type Problem } from '../contract/problem.ts'
import { isTable, type Table, toSectionId, withoutPrototypeKeys } from './table.ts'

/** Environment variables the gateway reads, and no others of that prefix. `PORTICO_TOKEN` is a bearer with all scopes. */
const variables = ['PORTICO_CONFIG', 'PORTICO_DATA_DIR', 'PORTICO_PORT', 'PORTICO_HOST', 'PORTICO_TOKEN']

/** Flags that beat everything else. */
export type ConfigFlags = { port?: string | number } & Partial<Record<'config' | 'host' | 'dataDir', string>>

/** What was written, before any schema. */
export interface RawConfig {
  /** The file's full path; null when there is none. */
  readonly file: string | null
  /** What was read. */
  readonly text: string
  /** What relative paths in the file start from. */
  readonly baseDir: string
  readonly dataDir: string
  /** Specifiers of third-party plugins. */
  readonly plugins: readonly string[]
  /** Sections by id, flags and environment merged in; keys below are spelled as written. */
  readonly table: Table
  readonly env: Readonly<Record<string, string | undefined>>
  /** False when others can read the file: then secrets in it must be references. */
  readonly privateFile: boolean
  readonly problems: readonly Problem[]
}

/** What `readConfig` is given. */
export interface ReadConfigOptions {
  flags?: ConfigFlags
  env: Readonly<Record<string, string | undefined>>
  /** Where `./portico.toml` is looked for. */
  cwd: string
  /** TOML instead of a file. */
  configText?: string
  /** TOML instead of what stands in the file. */
  fileText?: string
}

/** Reads the config. Never throws: what is wrong is in `problems`. */
export function readConfig({ flags = {}, env, cwd, configText, fileText }: ReadConfigOptions): RawConfig {
  const problems: Problem[] = []
  const home = env.HOME || homedir()
  const path = (value: string) => resolve(cwd, value.startsWith('~/') ? join(home, value.slice(2)) : value)
  const asked = flags.config ?? (env.PORTICO_CONFIG || undefined)
  const file = configText === undefined ? readFile(path(asked ?? 'portico.toml'), asked !== undefined && fileText === undefined, problems) : null
  const text = configText ?? fileText ?? file?.text ?? ''
  const { plugins, table } = splitSections(parseToml(text, file?.path ?? 'portico.toml', problems), problems)

  for (const key of Object.keys(env).filter((name) => name.startsWith('PORTICO_') && !variables.includes(name))) {
    const [nearest, expected] = [nearestName(key, variables), `one of ${variables.join(', ')}`]
    problems.push({ where: 'environment', key, what: 'this variable is unknown', nearest, expected })
  }
  const port = readPort('flags', '--port', String(flags.port ?? ''), problems) ?? readPort('environment', 'PORTICO_PORT', env.PORTICO_PORT ?? '', problems)
  const host = flags.host ?? (env.PORTICO_HOST || undefined)
  const { gateway = {} } = table
  if (isTable(gateway)) table.gateway = { ...gateway, ...(port !== undefined && { port }), ...(host !== undefined && { host }) }

  const share = env.XDG_DATA_HOME && isAbsolute(env.XDG_DATA_HOME) ? env.XDG_DATA_HOME : join(home, '.local', 'share')
  const dataDir = path(flags.dataDir ?? (env.PORTICO_DATA_DIR || join(share, 'portico')))
  return {
    file: file?.path ?? null,
    text,
    baseDir: file ? dirname(file.path) : cwd,
    dataDir,
    plugins,
    table,
    env,
    privateFile: file?.private ?? true,
    problems,
  }
}

/** True when the plugin's section says `enabled = false`. */
export function isSwitchedOff(raw: RawConfig, plugin: string): boolean {
  const section = raw.table[plugin]
  return isTable(section) && section.enabled === false
}

function readPort(where: string, key: string, text: string, problems: Problem[]): number | undefined {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text)
  if (text !== '') problems.push({ where, key, what: 'is no port', found: JSON.stringify(text), expected: 'an integer from 0 to 65535' })
  return undefined
}

function readFile(path: string, asked: boolean, problems: Problem[]): { path: string; text: string; private: boolean } | null {
  try {
    const text = readFileSync(path, 'utf8')
    return { path, text: text.replace(/^\uFEFF/, ''), private: process.platform === 'win32' || (statSync(path).mode & 0o077) === 0 }
  } catch (error) {
    const { code = 'error' } = error as NodeJS.ErrnoException
    const what = code === 'ENOENT' ? 'the config file does not exist' : `the config file cannot be read (${code})`
    if (code !== 'ENOENT' || asked) problems.push({ where: 'config', key: path, what, expected: 'the path of a readable TOML file' })
    return null
  }
}

function parseToml(text: string, name: string, problems: Problem[]): Table {
  try {
    return withoutPrototypeKeys(parse(text), [], problems) as Table
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // Only the first line: the rest of the message quotes the file, and with it perhaps a secret.
    const what = error.message.split('\n')[0]?.replace('Invalid TOML document: ', '') ?? 'no TOML'
    problems.push({ where: 'config', key: `${name}:${error.line}:${error.column}`, what: `the file is not TOML: ${what}` })
    return {}
  }
}

function splitSections({ plugins = [], ...written }: Table, problems: Problem[]): { plugins: string[]; table: Table } {
  const table: Table = {}
  for (const [key, value] of Object.entries(written)) {
    const id = sectionAliases.get(toSectionId(key)) ?? toSectionId(key)
    if (Object.hasOwn(table, id)) problems.push({ where: 'config', key, what: 'this section is given twice', expected: `only [${id}]` })
    else table[id] = value
  }
  if (Array.isArray(plugins) && plugins.every((entry) => typeof entry === 'string' && entry !== '')) return { plugins, table }
  problems.push({ where: 'config', key: 'plugins', what: 'has the wrong type', expected: 'a list of strings, e.g. plugins = ["./my-plugin.ts"]' })
  return { plugins: [], table }
}
