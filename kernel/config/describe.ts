/** Says in words what a schema expects and what was found instead. A value that could be a secret is never shown. */
import { isSecret } from '../contract/schema.ts'
import { isTable } from './table.ts'

/** A schema as it is walked here: the JSON Schema keywords that TypeBox writes. */
export interface Node {
  readonly type?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly anyOf?: readonly Node[]
  readonly properties?: Readonly<Record<string, Node>>
  readonly patternProperties?: Readonly<Record<string, Node>>
  readonly additionalProperties?: unknown
  readonly required?: readonly string[]
  readonly items?: unknown
  readonly minItems?: number
  readonly maxItems?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
  readonly pattern?: string
  readonly format?: string
  readonly description?: string
}

const nouns: Readonly<Record<string, string>> = {
  string: 'a string',
  integer: 'an integer',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table',
  null: 'null',
}

/** What the schema expects. */
export function describeSchema(schema: Node): string {
  if (isSecret(schema)) return `a secret: "env:NAME", "file:PATH" or the text itself${bounds(schema)}`
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.anyOf) return schema.anyOf.map(describeSchema).join(' or ')
  return `${nouns[schema.type ?? ''] ?? 'another value'}${bounds(schema)}`
}

function bounds(schema: Node): string {
  const unit = schema.type === 'string' ? ' characters' : schema.type === 'array' ? ' entries' : ''
  const low = schema.minimum ?? schema.minLength ?? schema.minItems
  const high = schema.maximum ?? schema.maxLength ?? schema.maxItems
  let text = ''
  if (low !== undefined && high !== undefined) text += unit === '' ? ` from ${low} to ${high}` : ` of ${low} to ${high}${unit}`
  else if (low !== undefined) text += ` of at least ${low}${unit}`
  else if (high !== undefined) text += ` of at most ${high}${unit}`
  if (schema.exclusiveMinimum !== undefined) text += ` over ${schema.exclusiveMinimum}`
  if (schema.exclusiveMaximum !== undefined) text += ` under ${schema.exclusiveMaximum}`
  if (schema.pattern !== undefined) text += ` that matches ${schema.pattern}`
  if (schema.format !== undefined) text += ` in the form of a ${schema.format}`
  return text
}

/** What was found: scalars as they stand, unless the schema holds a secret anywhere. */
export function describeValue(schema: Node, value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Date) return 'a date'
  if (isTable(value)) return 'a table'
  if (holdsSecret(schema)) return `${nouns[typeof value] ?? 'a value'} (not shown)`.replace('true or false', 'a boolean')
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

function holdsSecret(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false
  return isSecret(schema) || Object.values(schema).some(holdsSecret)
}
