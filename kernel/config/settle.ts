/** Brings a value into the form its schema demands: spellings, defaults, secrets, types. Collects problems, never throws, never shows a secret. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { FormatRegistry } from '@sinclair/typebox'
import { Check } from '@sinclair/typebox/value'
import { nearestName, type Problem } from '../contract/problem.ts'
import { isSecret, type TSchema, t } from '../contract/schema.ts'
import { describeSchema, describeValue } from './describe.ts'
import type { RawConfig } from './read.ts'
import type { ResolvedSecret } from './secrets.ts'
import { fold, isTable, type Path, pathText, type Table } from './table.ts'

/** What a settling goes along with. */
export interface Settling {
  readonly section: string
  readonly raw: RawConfig
  readonly problems: Problem[]
  readonly secrets: ResolvedSecret[]
}

/** The value in its schema's form. After a problem it is the default, or undefined. */
export function settle(schema: TSchema, given: unknown, path: Path, settling: Settling): unknown {
  const value = given === undefined ? structuredClone(schema.default) : given
  if (isSecret(schema) && typeof value === 'string') return settleSecret(schema, value, path, settling)
  if (schema.anyOf && value !== undefined) return settleUnion(schema, value, path, settling)
  if (schema.type === 'object' && (value === undefined || isTable(value))) return settleTable(schema, value ?? {}, path, settling)
  const expected = describeSchema(schema)
  if (value === undefined) return fault(settling, path, { what: 'is missing', expected })
  if (schema.type === 'array' && isTable(schema.items) && Array.isArray(value)) {
    const { minItems = 0, maxItems = Number.POSITIVE_INFINITY, items } = schema
    if (value.length >= minItems && value.length <= maxItems) return value.map((entry, index) => settle(items as TSchema, entry, [...path, index], settling))
    return fault(settling, path, { what: 'has the wrong length', found: `${value.length} entries`, expected }, schema)
  }
  if (passes(schema, value)) return value
  return fault(settling, path, { what: 'has a wrong value', found: describeValue(schema, value), expected }, schema)
}

function settleTable(schema: TSchema, value: Table, path: Path, settling: Settling): Table {
  const properties = new Map(Object.entries<TSchema>(schema.properties ?? {}))
  const names = new Map([...properties.keys()].map((name) => [fold(name), name]))
  // The name of a key that is no property is kept as written: it is a record's, free-form, or unknown.
  const given = Map.groupBy(Object.keys(value), (written) => names.get(fold(written)) ?? written)
  const extra = [...given.keys()].filter((name) => !properties.has(name))
  const out: Table = {}
  for (const name of [...extra, ...properties.keys()]) {
    const [written, twin] = given.get(name) ?? []
    const property = properties.get(name) ?? extraSchema(schema, name)
    if (twin !== undefined) fault(settling, [...path, name], { what: 'is given twice', found: `${written} and ${twin}` })
    if (property === undefined) faultUnknown(name, [...properties.keys()], path, settling)
    else if (written !== undefined || property.default !== undefined || schema.required?.includes(name)) {
      const settled = settle(property, written === undefined ? undefined : value[written], [...path, name], settling)
      if (settled !== undefined) out[name] = settled
    }
  }
  return out
}

/** The schema of a key that is no property; undefined when there must be none. */
function extraSchema(schema: TSchema, key: string): TSchema | undefined {
  const patterns = Object.entries<TSchema>(schema.patternProperties ?? {})
  const found = patterns.find(([pattern]) => new RegExp(pattern).test(key))?.[1] ?? schema.additionalProperties ?? patterns.length === 0
  return found === true ? t.Unknown() : found || undefined
}

function faultUnknown(key: string, known: readonly string[], path: Path, settling: Settling): void {
  const nearest = nearestName(fold(key), known)
  fault(settling, [...path, key], { what: 'this key is unknown', nearest, expected: nearest || known.length === 0 ? undefined : `one of ${known.join(', ')}` })
}

/** The first branch that takes the value; else the problems of the first that it could be meant for. */
function settleUnion(schema: TSchema, value: unknown, path: Path, settling: Settling): unknown {
  const trials = (schema.anyOf as TSchema[])
    .filter((branch) => fits(branch, value))
    .map((branch) => {
      const trial: Settling = { ...settling, problems: [], secrets: [] }
      return { ...trial, result: settle(branch, value, path, trial) }
    })
  const chosen = trials.find(({ problems }) => problems.length === 0) ?? trials[0]
  if (!chosen) return fault(settling, path, { what: 'has a wrong value', found: describeValue(schema, value), expected: describeSchema(schema) }, schema)
  settling.problems.push(...chosen.problems)
  settling.secrets.push(...chosen.secrets)
  return chosen.result
}

/** True if the value means this branch: it is of its kind, and for tables its constant properties are there. */
function fits(branch: TSchema, value: unknown): boolean {
  if (branch.anyOf) return branch.anyOf.some((inner: TSchema) => fits(inner, value))
  if (branch.type === 'array') return Array.isArray(value)
  if (branch.type !== 'object') return isSecret(branch) ? typeof value === 'string' : passes(branch, value)
  if (!isTable(value)) return false
  const written = new Map(Object.entries(value).map(([key, entry]) => [fold(key), entry]))
  return Object.entries<TSchema>(branch.properties ?? {}).every(([name, { const: constant }]) => constant === undefined || written.get(fold(name)) === constant)
}

/** Resolves a secret. What is wrong is a problem that names the reference, never the value. */
function settleSecret(schema: TSchema, written: string, path: Path, settling: Settling): unknown {
  const { raw, section } = settling
  // `${NAME}` is the spelling of seed 2.
  const [reference = null, name, nameInBraces, file] = /^(?:env:(\w+)|\$\{(\w+)\}|file:(.+))$/.exec(written) ?? []
  const variable = name ?? nameInBraces
  let value = variable === undefined ? written : (raw.env[variable] ?? '')
  if (variable !== undefined && value === '')
    return fault(settling, path, { what: 'the environment variable is not set', found: written, expected: `${variable} to hold the secret` })
  try {
    if (file !== undefined) value = readFileSync(resolve(raw.baseDir, file), 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    const { code = 'error' } = error as NodeJS.ErrnoException
    return fault(settling, path, { what: 'the file of the secret cannot be read', found: `${written} (${code})`, expected: 'a readable file' })
  }
  settling.secrets.push({ section, key: pathText(path), path, reference, value })
  if (value !== '' && passes(schema, value)) return value
  return fault(settling, path, { what: 'the secret is not of the right form', found: reference ?? 'a secret (not shown)', expected: describeSchema(schema) })
}

/** True if the value is valid; formats nobody registered are not checked. */
function passes(schema: TSchema, value: unknown): boolean {
  const { format, ...rest } = schema
  return Check(format === undefined || FormatRegistry.Has(format) ? schema : (rest as TSchema), value)
}

/** Reports a problem; what stands instead of the value is the default, if there is one. */
function fault(settling: Settling, path: Path, problem: Omit<Problem, 'where' | 'key'>, schema?: TSchema): unknown {
  settling.problems.push({ where: settling.section, key: pathText(path), ...problem })
  return structuredClone(schema?.default)
}
