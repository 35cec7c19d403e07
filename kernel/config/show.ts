/** Shows the config: redacted values, and the JSON Schema of the file for editors. */
import { isSecret, type JsonSchema, toJsonSchema } from '../contract/schema.ts'
import { aliases } from './aliases.ts'
import type { ResolvedConfig } from './index.ts'
import { type ConfigSection, kernelSections, pluginKeys } from './sections.ts'
import { isTable, type Table, toSnake } from './table.ts'

/** The values of all sections, each secret as `***`, or as its reference. */
export function redactConfig(resolved: ResolvedConfig, sections: readonly ConfigSection[]): Record<string, unknown> {
  const out: Table = {}
  for (const { id } of sections) out[id] = structuredClone(resolved.sections[id])
  for (const { section, path, reference } of resolved.secrets) {
    const last = path.at(-1)
    let holder: unknown = out[section]
    for (const part of path.slice(0, -1)) holder = (holder as Record<string | number, unknown> | undefined)?.[part]
    if (last !== undefined && typeof holder === 'object' && holder !== null) (holder as Record<string | number, unknown>)[last] = reference ?? '***'
  }
  return out
}

/** JSON Schema 2020-12 of `portico.toml`. Keys are proposed in camelCase; snake_case and the seeds' keys are accepted. */
export function configJsonSchema(sections: readonly ConfigSection[]): JsonSchema {
  const kernel = new Set(kernelSections.map(({ id }) => id))
  const properties: Record<string, JsonSchema> = {
    plugins: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      description: 'Plugins from elsewhere: paths, from this file’s folder, or package names',
    },
  }
  for (const { id, schema } of sections) {
    const own = toJsonSchema(schema)
    const common = kernel.has(id) ? {} : (toJsonSchema(pluginKeys).properties as JsonSchema)
    properties[id] = forFile({ ...own, properties: { ...common, ...(own.properties as JsonSchema | undefined) } }) as JsonSchema
  }
  for (const [from, to] of aliases) {
    const [section = '', key = ''] = from.split('.')
    const target = properties[section]
    if (target && Object.hasOwn(properties, to.split('.')[0] ?? ''))
      target.patternProperties = { ...(target.patternProperties as JsonSchema), [spellings(key)]: true }
  }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'portico.toml',
    type: 'object',
    properties,
    patternProperties: Object.fromEntries(
      Object.keys(properties)
        .filter((id) => id.includes('-'))
        .map((id) => [`^(${id.replaceAll('-', '_')}|${id.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())})$`, { $ref: `#/properties/${id}` }]),
    ),
    additionalProperties: false,
  }
}

const spellings = (key: string): string => `^(${key}|${toSnake(key)})$`

// In the file nothing with a default is required, and every key has a second spelling, which editors need not propose.
function forFile(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(forFile)
  if (!isTable(schema)) return schema
  const { 'x-portico-secret': _, properties, required, default: preset, ...rest } = schema
  const out: Table = preset === undefined ? {} : { default: preset }
  for (const [key, value] of Object.entries(rest)) out[key] = forFile(value)
  if (isSecret(schema)) {
    const { minLength, maxLength, pattern, ...free } = out
    return { ...free, description: [schema.description, 'A secret: env:NAME, file:PATH, or the text itself in a file of mode 0600'].filter(Boolean).join('. ') }
  }
  if (!isTable(properties)) return out
  const entries = Object.entries(properties).map(([name, property]) => [name, forFile(property)] as const)
  const twins = entries.filter(([name]) => toSnake(name) !== name).map(([name, property]) => [`^${toSnake(name)}$`, property] as const)
  const needed = Array.isArray(required) ? required.filter((name: string) => toSnake(name) === name && !hasPreset(properties[name])) : []
  return {
    ...out,
    properties: Object.fromEntries(entries),
    ...(twins.length > 0 && { patternProperties: { ...(out.patternProperties as Table | undefined), ...Object.fromEntries(twins) } }),
    ...(needed.length > 0 && { required: needed }),
  }
}

const hasPreset = (schema: unknown): boolean => isTable(schema) && (schema.default !== undefined || schema.type === 'object')
