/** Brings a value into the form its schema demands: spellings, defaults, secrets, types. Collects problems, never throws, never shows a secret. */
import { nearestName } from '../contract/problem.ts'
import { isSecret, type TSchema } from '../contract/schema.ts'
import { describeSchema, describeValue } from './describe.ts'
import { settleSecret } from './secrets.ts'
import { fault, passes, type Settling } from './settling.ts'
import { fold, isTable, type Path, type Table } from './table.ts'

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
    return fault(settling, path, { what: 'has the wrong length', found: `${value.length} entries`, expected }, schema.default)
  }
  if (passes(schema, value)) return value
  return fault(settling, path, { what: 'has a wrong value', found: describeValue(schema, value), expected }, schema.default)
}

function settleTable(schema: TSchema, value: Table, path: Path, settling: Settling): Table {
  const properties: Record<string, TSchema> = schema.properties ?? {}
  const names = new Map(Object.keys(properties).map((name) => [fold(name), name]))
  const given = new Map<string, { written: string; value: unknown }>()
  const out: Table = {}
  for (const [written, entry] of Object.entries(value)) {
    const name = Object.hasOwn(properties, written) ? written : names.get(fold(written))
    const other = given.get(name ?? '')
    if (name === undefined) settleExtra(schema, written, entry, path, settling, out)
    else if (other) fault(settling, [...path, name], { what: 'is given twice', found: `${other.written} and ${written}` })
    else given.set(name, { written, value: entry })
  }
  for (const [name, property] of Object.entries(properties)) {
    const entry = given.get(name)
    if (!entry && property.default === undefined && !schema.required?.includes(name)) continue
    const settled = settle(property, entry?.value, [...path, name], settling)
    if (settled !== undefined) out[name] = settled
  }
  return out
}

// A key that is no property: of a record or free-form (its name is kept as written), or unknown.
function settleExtra(schema: TSchema, key: string, value: unknown, path: Path, settling: Settling, out: Table): void {
  const patterns = Object.entries<TSchema>(schema.patternProperties ?? {})
  const entry = patterns.find(([pattern]) => new RegExp(pattern).test(key))?.[1] ?? schema.additionalProperties ?? patterns.length === 0
  if (entry === true) out[key] = value
  else if (entry) {
    const settled = settle(entry, value, [...path, key], settling)
    if (settled !== undefined) out[key] = settled
  } else {
    const known = Object.keys(schema.properties ?? {})
    const nearest = nearestName(fold(key), known)
    fault(settling, [...path, key], {
      what: 'this key is unknown',
      nearest,
      expected: nearest || known.length === 0 ? undefined : `one of ${known.join(', ')}`,
    })
  }
}

function settleUnion(schema: TSchema, value: unknown, path: Path, settling: Settling): unknown {
  let first: { result: unknown; trial: Settling } | undefined
  for (const branch of schema.anyOf as TSchema[]) {
    if (!fits(branch, value)) continue
    const trial: Settling = { ...settling, problems: [], secrets: [] }
    const result = settle(branch, value, path, trial)
    first ??= { result, trial }
    if (trial.problems.length > 0) continue
    settling.secrets.push(...trial.secrets)
    return result
  }
  if (!first) return fault(settling, path, { what: 'has a wrong value', found: describeValue(schema, value), expected: describeSchema(schema) }, schema.default)
  settling.problems.push(...first.trial.problems)
  return first.result
}

/** True if the value means this branch: it is of its kind, and for tables its constant properties are there. */
function fits(branch: TSchema, value: unknown): boolean {
  if (branch.anyOf) return branch.anyOf.some((inner: TSchema) => fits(inner, value))
  if (branch.type === 'array') return Array.isArray(value)
  if (branch.type !== 'object') return isSecret(branch) ? typeof value === 'string' : passes(branch, value)
  if (!isTable(value)) return false
  return Object.entries<TSchema>(branch.properties ?? {}).every(([name, { const: constant }]) => {
    const key = Object.keys(value).find((written) => fold(written) === fold(name))
    return constant === undefined || (key !== undefined && value[key] === constant)
  })
}
