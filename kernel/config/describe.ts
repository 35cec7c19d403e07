/** Says in words what a schema expects and what was found instead. A value that could be a secret is never shown. */
import { isSecret, type TSchema } from '../contract/schema.ts'

const nouns: Readonly<Record<string, string>> = {
  ...{ string: 'a string', integer: 'an integer', number: 'a number', boolean: 'true or false', array: 'a list', object: 'a table', null: 'null' },
}
const rules = { exclusiveMinimum: 'over', pattern: 'that matches', format: 'in the form of a' }

/** What the schema expects. */
export function describeSchema(schema: TSchema): string {
  if (isSecret(schema)) return `a secret: "env:NAME", "file:PATH" or the text itself${bounds(schema)}`
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (Array.isArray(schema.anyOf)) return schema.anyOf.map(describeSchema).join(' or ')
  return `${nouns[schema.type] ?? 'another value'}${bounds(schema)}`
}

function bounds(schema: TSchema): string {
  const unit = schema.type === 'string' ? ' characters' : schema.type === 'array' ? ' entries' : ''
  const low = schema.minimum ?? schema.minLength ?? schema.minItems
  const high = schema.maximum ?? schema.maxLength ?? schema.maxItems
  const ends = [low !== undefined && `at least ${low}${unit}`, high !== undefined && `at most ${high}${unit}`].filter((end) => end !== false)
  const range = ends.length === 2 && unit === '' ? ` from ${low} to ${high}` : ends.length > 0 ? ` of ${ends.join(' and ')}` : ''
  const more = Object.entries(rules).map(([key, words]) => (schema[key] === undefined ? '' : ` ${words} ${schema[key]}`))
  return [range, ...more].join('')
}

/** What was found: scalars as they stand, unless the schema holds a secret anywhere. */
export function describeValue(schema: TSchema, value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Date) return 'a date'
  if (typeof value === 'object' && value !== null) return 'a table'
  if (holdsSecret(schema)) return `a ${typeof value} (not shown)`
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

function holdsSecret(schema: unknown): boolean {
  return typeof schema === 'object' && schema !== null && (isSecret(schema) || Object.values(schema).some(holdsSecret))
}
