/** Brings a value into the form its schema demands: spellings, defaults, secrets, types. Collects problems, never throws, never shows a secret. */
import { nearestName } from '../contract/problem.ts'
import { isSecret } from '../contract/schema.ts'
import { describeSchema, describeValue, type Node } from './describe.ts'
import { settleSecret } from './secrets.ts'
import { fault, type Path, passes, type Settling } from './settling.ts'
import { fold, isTable, type Table } from './table.ts'

/** The value in its schema's form. After a problem it is the default, or undefined. */
export function settle(schema: Node, given: unknown, path: Path, settling: Settling): unknown {
  const value = given === undefined ? structuredClone(schema.default) : given
  if (isSecret(schema) && typeof value === 'string') return settleSecret(schema, value, path, settling)
  if (schema.anyOf && value !== undefined) return settleUnion(schema, schema.anyOf, value, path, settling)
  if (schema.type === 'object' && (value === undefined || isTable(value))) return settleTable(schema, value ?? {}, path, settling)
  if (schema.type === 'array' && isSchema(schema.items) && Array.isArray(value)) return settleList(schema, schema.items, value, path, settling)
  if (value === undefined) return fault('is missing', { expected: describeSchema(schema) }, path, settling)
  return passes(schema, value) ? value : wrong(schema, value, path, settling)
}

function settleTable(schema: Node, value: Table, path: Path, settling: Settling): Table {
  const properties = schema.properties ?? {}
  const names = new Map(Object.keys(properties).map((name) => [fold(name), name]))
  const given = new Map<string, { written: string; value: unknown }>()
  const out: Table = {}
  for (const [written, entry] of Object.entries(value)) {
    const name = Object.hasOwn(properties, written) ? written : names.get(fold(written))
    const other = name === undefined ? undefined : given.get(name)
    if (name === undefined) settleExtra(schema, written, entry, { path, settling, out })
    else if (other) fault('is given twice', { found: `${other.written} and ${written}` }, [...path, name], settling)
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

interface Extra {
  readonly path: Path
  readonly settling: Settling
  readonly out: Table
}

// A key that is no property: free-form (kept as written), one of a record, or unknown.
function settleExtra(schema: Node, key: string, value: unknown, { path, settling, out }: Extra): void {
  const at = [...path, key]
  for (const [pattern, entry] of Object.entries(schema.patternProperties ?? {})) {
    if (!new RegExp(pattern).test(key)) continue
    const settled = settle(entry, value, at, settling)
    if (settled !== undefined) out[key] = settled
    return
  }
  const rest = schema.additionalProperties
  if (rest === true || (rest === undefined && !schema.patternProperties)) out[key] = value
  else if (isSchema(rest)) out[key] = settle(rest, value, at, settling)
  else {
    const known = Object.keys(schema.properties ?? {})
    const nearest = nearestName(fold(key), known)
    fault('this key is unknown', { nearest, expected: nearest || known.length === 0 ? undefined : `one of ${known.join(', ')}` }, at, settling)
  }
}

function settleList(schema: Node, items: Node, value: readonly unknown[], path: Path, settling: Settling): unknown {
  const { length } = value
  if (length < (schema.minItems ?? 0) || length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) {
    return fault('has the wrong length', { found: `${length} entries`, expected: describeSchema(schema) }, path, settling, schema.default)
  }
  return value.map((entry, index) => settle(items, entry, [...path, index], settling))
}

function settleUnion(schema: Node, branches: readonly Node[], value: unknown, path: Path, settling: Settling): unknown {
  let first: { result: unknown; trial: Settling } | undefined
  for (const branch of branches) {
    if (!fits(branch, value)) continue
    const trial: Settling = { ...settling, problems: [], secrets: [] }
    const result = settle(branch, value, path, trial)
    first ??= { result, trial }
    if (trial.problems.length > 0) continue
    settling.secrets.push(...trial.secrets)
    return result
  }
  if (!first) return wrong(schema, value, path, settling)
  settling.problems.push(...first.trial.problems)
  return first.result
}

/** True if the branch is meant by the value: its kind, and for tables its constant properties. */
function fits(branch: Node, value: unknown): boolean {
  if (branch.const !== undefined) return branch.const === value
  if (branch.anyOf) return branch.anyOf.some((inner) => fits(inner, value))
  if (branch.type === 'object') {
    if (!isTable(value)) return false
    return Object.entries(branch.properties ?? {}).every(([name, { const: constant }]) => {
      const key = Object.keys(value).find((written) => written === name || fold(written) === name)
      return constant === undefined || (key !== undefined && value[key] === constant)
    })
  }
  if (branch.type === 'array') return Array.isArray(value)
  if (branch.type === 'number' || branch.type === 'integer') return typeof value === 'number'
  if (branch.type === 'null') return value === null
  return branch.type === undefined || branch.type === typeof value
}

function wrong(schema: Node, value: unknown, path: Path, settling: Settling): unknown {
  return fault('has a wrong value', { found: describeValue(schema, value), expected: describeSchema(schema) }, path, settling, schema.default)
}

function isSchema(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
