/** A JSON merge patch for the text of a TOML file. What it does not touch, comments above all, stays byte for byte. Knows no schema. */
import { isDeepStrictEqual } from 'node:util'
import { GatewayError } from 'portico'
import { parse, TomlError } from 'smol-toml'
import { fold, toSectionId } from './spelling.ts'
import { isTable, type Table } from './table.ts'
import { type Change, changeToml } from './toml-text.ts'

/** What `patchToml` may be told of the file. */
export interface PatchTomlOptions {
  /** True for a table whose keys are names that somebody chose: they are taken as written. Default: there is none. */
  holdsNames?(path: readonly string[]): boolean
}

/**
 * The text with the patch (RFC 7396) applied. An existing key is found in either spelling (`max_age`, `maxAge`; a section also as `max-age`) and keeps its own; a
 * new key is spelled as in the patch. Values are changed where they stand and lists replaced whole, but of `[[lists]]` the entries that stay equal are not touched.
 * A comment goes only with the line, the value or the table that it stands in. Throws `GatewayError`: `config_invalid` when the text is not TOML, `unprocessable`
 * when the patch is nothing that TOML can say.
 */
export function patchToml(text: string, patch: Readonly<Table>, options: PatchTomlOptions = {}): string {
  const start = text.startsWith('\uFEFF') ? 1 : 0
  const changes: Change[] = []
  const merged = merge(read(text.slice(start)), patch, [], { changes, options })
  const patched = changes.reduce(changeToml, text.slice(start))
  // A wrong edit must never reach a file, whatever was overlooked here or in the parser.
  if (!isDeepStrictEqual(read(patched), merged)) throw new GatewayError('internal_error', 'The config file cannot be changed without harm: edit it by hand.')
  return text.slice(0, start) + patched
}

function read(text: string): Table {
  let place: string
  try {
    // As plain objects: smol-toml's have no prototype, and equality asks for it.
    return structuredClone(parse(text))
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // Nothing else of it: its message quotes the file, and with it perhaps a secret.
    place = `line ${error.line}, column ${error.column}`
  }
  throw new GatewayError('config_invalid', `The config file is not TOML at ${place}: mend it first.`)
}

interface Merging {
  readonly changes: Change[]
  readonly options: PatchTomlOptions
}

/** The table as the patch wants it. The leaves that differ go to `changes`. */
function merge(table: Table, patch: Readonly<Table>, path: readonly string[], merging: Merging): Table {
  const out = { ...table }
  for (const [key, wanted] of Object.entries(patch)) {
    if (['__proto__', 'constructor', 'prototype'].includes(key)) refuse(`${key} is not allowed for a key`)
    if (!key.isWellFormed()) refuse('a key holds half a character')
    const name = nameIn(out, key, path, merging.options)
    const at = [...path, name]
    const before = Object.hasOwn(out, name) ? out[name] : undefined
    if (isTable(wanted) && isTable(before)) out[name] = merge(before, wanted, at, merging)
    else {
      const after = wanted === null ? undefined : toValue(wanted)
      if (after === undefined) delete out[name]
      else out[name] = after
      if (!isDeepStrictEqual(before, after)) merging.changes.push({ path: at, before, after })
    }
  }
  return out
}

function nameIn(table: Table, key: string, path: readonly string[], { holdsNames }: PatchTomlOptions): string {
  if (Object.hasOwn(table, key) || holdsNames?.(path)) return key
  const spelling = path.length === 0 ? toSectionId : fold
  return Object.keys(table).find((other) => spelling(other) === spelling(key)) ?? key
}

/** A value where there was none: members that are null are left out, as the RFC has it. */
function toValue(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((entry) => (entry === null ? refuse('a list cannot hold null') : toValue(entry)))
  if (isTable(value)) return merge({}, value, [], { changes: [], options: { holdsNames: () => true } })
  if (typeof value === 'string' && !value.isWellFormed()) refuse('a text holds half a character')
  return Object.is(value, -0) ? 0 : value
}

function refuse(why: string): never {
  throw new GatewayError('unprocessable', `The config file cannot say this: ${why}.`)
}
