/** Shows the config: redacted values, and the JSON Schema of the file for editors. */
import { isSecret, type JsonSchema, toJsonSchema } from '../contract/schema.ts'
import { aliases, sectionAliases } from './aliases.ts'
import type { ResolvedConfig } from './index.ts'
import { type ConfigSection, wholeSchema } from './sections.ts'
import { isTable, type Table, toSnake } from './table.ts'

/** The values of all sections, each secret as `***`, or as its reference. */
export function redactConfig(resolved: ResolvedConfig, sections: readonly ConfigSection[]): Record<string, unknown> {
  const out: Table = Object.fromEntries(sections.map(({ id }) => [id, structuredClone(resolved.sections[id])]))
  for (const { section, path, reference } of resolved.secrets) {
    const holder = path.slice(0, -1).reduce<Table | undefined>((inner, part) => inner?.[part] as Table | undefined, out[section] as Table | undefined)
    const last = path.at(-1)
    if (holder && last !== undefined && holder[last] !== undefined) holder[last] = reference ?? '***'
  }
  return out
}

/** JSON Schema 2020-12 of `portico.toml`. Keys are proposed in camelCase; snake_case and the seeds' keys are accepted. */
export function configJsonSchema(sections: readonly ConfigSection[]): JsonSchema {
  const specifiers = { type: 'array', items: { type: 'string', minLength: 1 }, description: 'Paths, from this file’s folder, or package names' }
  const properties: Record<string, JsonSchema> = { plugins: specifiers }
  for (const section of sections) properties[section.id] = forFile(toJsonSchema(wholeSchema(section))) as JsonSchema
  const moved = Object.entries(aliases).filter(([, [plugin]]) => properties[plugin])
  if (properties.gateway)
    properties.gateway.patternProperties = { ...(properties.gateway.patternProperties ?? {}), ...spellings(moved.map(([key]) => [key, true])) }
  const folded = sections.map(({ id }) => [id.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase()), id] as const)
  const others = [...folded, ...sectionAliases].filter(([key, id]) => !properties[key] && properties[id])
  const patternProperties = spellings(others.map(([key, id]) => [key, { $ref: `#/properties/${id}` }]))
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'portico.toml',
    type: 'object',
    properties,
    patternProperties,
    additionalProperties: false,
  }
}

const spellings = (entries: readonly (readonly [key: string, schema: unknown])[]): Table =>
  Object.fromEntries(entries.map(([key, schema]) => [`^(${key}|${toSnake(key)})$`, schema]))

// In the file nothing with a default is required, and a key has a second spelling, which editors need not propose.
function forFile(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(forFile)
  if (!isTable(schema)) return schema
  if (isSecret(schema))
    return { type: 'string', description: [schema.description, 'env:NAME, file:PATH, or the secret in a file of mode 0600'].filter(Boolean).join('; ') }
  const { properties, required, ...rest } = schema
  const out: Table = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, key === 'default' ? value : forFile(value)]))
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

const hasPreset = (schema: unknown): boolean => isTable(schema) && (schema.default !== undefined || schema.type === 'object')
