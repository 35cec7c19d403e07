/** What other plugins may use of the documents: schemas as they stand in them. */
import type { JsonSchema } from 'portico'

/** The schema as plain JSON Schema 2020-12: symbols gone, tuples as `prefixItems`. */
export function toJsonSchema(schema: unknown): JsonSchema {
  return plain(schema) as JsonSchema
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  const out: JsonSchema = {}
  for (const [key, entry] of Object.entries(value)) out[key] = plain(entry)
  if (out.type === 'array' && Array.isArray(out.items)) {
    out.prefixItems = out.items
    out.items = false
    delete out.additionalItems
  }
  const choices = out.anyOf
  if (Array.isArray(choices) && choices.every((choice) => typeof choice.const === 'string')) {
    delete out.anyOf
    return { ...out, type: 'string', enum: choices.map((choice) => choice.const) }
  }
  return out
}
