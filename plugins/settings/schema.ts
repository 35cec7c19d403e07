/** The JSON Schema of `portico.toml`, for editors: made of the sections that the gateway has. */
import { type ConfigSection, isSecret, type JsonSchema } from 'portico'
import { toJsonSchema } from 'portico/plugins/docs'
import { toCamel, toSnake } from './spelling.ts'

/** JSON Schema 2020-12 of the file. Keys are proposed in camelCase; snake_case and the keys that moved elsewhere are accepted. */
export function configJsonSchema(sections: readonly ConfigSection[]): JsonSchema {
  const specifiers = { type: 'array', items: { type: 'string', minLength: 1 }, description: 'Paths, from this file’s folder, or package names' }
  const properties: Record<string, JsonSchema> = { plugins: specifiers }
  for (const { id, schema } of sections) properties[id] = forFile(toJsonSchema(schema)) as JsonSchema
  const places = sections.flatMap(({ id, aliases }) => [toCamel(id), ...aliases].map((place) => ({ id, path: place.split('.') })))
  for (const { path } of places) {
    const [section = '', key] = path
    const holder = properties[section]
    if (holder && key) holder.patternProperties = { ...(holder.patternProperties ?? {}), ...spellings([[key, true]]) }
  }
  const others = places.filter(({ path: [name = '', key] }) => key === undefined && !properties[name])
  const patternProperties = spellings(others.map(({ id, path: [name = ''] }) => [name, { $ref: `#/properties/${id}` }]))
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'portico.toml',
    type: 'object',
    properties,
    patternProperties,
    additionalProperties: false,
  }
}

const spellings = (entries: readonly (readonly [key: string, schema: unknown])[]): JsonSchema =>
  Object.fromEntries(entries.map(([key, schema]) => [key === toSnake(key) ? `^${key}$` : `^(${key}|${toSnake(key)})$`, schema]))

// In the file nothing with a default is required, and a key has a second spelling, which editors need not propose.
function forFile(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(forFile)
  if (!isTable(schema)) return schema
  if (isSecret(schema))
    return {
      type: 'string',
      writeOnly: true,
      description: [schema.description, 'env:NAME, file:PATH, or the secret in a file of mode 0600'].filter(Boolean).join('; '),
    }
  const { properties, required, ...rest } = schema
  const out: JsonSchema = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, key === 'default' ? value : forFile(value)]))
  if (!isTable(properties)) return out
  const own = Object.entries(properties).map(([name, property]) => [name, forFile(property)] as const)
  const twins = own.filter(([name]) => toSnake(name) !== name)
  const needed = ((required ?? []) as string[]).filter((name) => toSnake(name) === name && !hasPreset(properties[name]))
  return {
    ...out,
    properties: Object.fromEntries(own),
    patternProperties: { ...(out.patternProperties ?? {}), ...spellings(twins.map(([name, property]) => [toSnake(name), property])) },
    required: needed,
  }
}

const isTable = (value: unknown): value is JsonSchema => typeof value === 'object' && value !== null
const hasPreset = (schema: unknown): boolean => isTable(schema) && (schema.default !== undefined || schema.type === 'object')
