/** A value that fits a JSON Schema, made from a prompt: its numbers, its quoted words, its choice of an enum. No validator; what it cannot fit it leaves near. */

type Schema = { [key: string]: unknown }

interface Source {
  /** The prompt, and what it offers, used up in order. */
  readonly prompt: string
  readonly numbers: number[]
  readonly quoted: string[]
  readonly root: Schema
}

/** From here on only what must be there. */
const deep = 4
const deepest = 32
const longestString = 100_000

/** The same schema and prompt give the same value. */
export function sampleSchema(schema: unknown, prompt: string): unknown {
  const root = asSchema(schema)
  const numbers = [...prompt.matchAll(/-?\d+(?:\.\d+)?/g)].map(([text]) => Number(text))
  const quoted = [...prompt.matchAll(/"([^"]*)"|“([^”]*)”/g)].map((match) => match[1] ?? match[2] ?? '')
  const source: Source = { prompt, numbers, quoted, root: root === true ? {} : root || {} }
  return sample(root, source, 0)
}

function sample(given: Schema | boolean, source: Source, depth: number): unknown {
  if (typeof given === 'boolean') return {}
  const schema = resolve(given, source)
  if ('const' in schema) return schema.const
  if (Array.isArray(schema.enum)) return schema.enum.find((value) => typeof value === 'string' && mentions(source.prompt, value)) ?? schema.enum[0]
  const choices = (schema.anyOf ?? schema.oneOf) as unknown
  if (Array.isArray(choices) && choices.length > 0) {
    const { anyOf: _any, oneOf: _one, ...rest } = schema
    const branch = choices.map(asSchema).find((choice) => typeof choice === 'object' && (depth < deep || isFlat(choice))) ?? asSchema(choices[0])
    return sample(typeof branch === 'boolean' ? rest : merge(rest, branch), source, depth + 1)
  }
  switch (typeOf(schema)) {
    case 'string':
      return sampleString(schema, source)
    case 'integer':
    case 'number':
      return sampleNumber(schema, source)
    case 'boolean':
      return !/\b(no|not|never|off|false)\b/i.test(source.prompt)
    case 'null':
      return null
    case 'array':
      return sampleArray(schema, source, depth)
    default:
      return sampleObject(schema, source, depth)
  }
}

/** `$ref` into the schema itself, and `allOf`, taken in. */
function resolve(schema: Schema, source: Source): Schema {
  let found = schema
  for (let hops = 0; hops < deepest && typeof found.$ref === 'string'; hops++) {
    const { $ref, ...rest } = found
    found = merge(rest, lookUp(source.root, $ref as string))
  }
  if (!Array.isArray(found.allOf)) return found
  const { allOf, ...rest } = found
  return (allOf as unknown[]).map(asSchema).reduce<Schema>((all, part) => (typeof part === 'boolean' ? all : merge(all, resolve(part, source))), rest)
}

function lookUp(root: Schema, ref: string): Schema {
  if (!ref.startsWith('#')) return {}
  let at: unknown = root
  for (const step of ref.slice(1).split('/').filter(Boolean))
    at = (at as Schema | null | undefined)?.[decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')]
  const found = asSchema(at)
  return typeof found === 'boolean' ? {} : found
}

function merge(a: Schema, b: Schema): Schema {
  const properties = { ...(a.properties as Schema), ...(b.properties as Schema) }
  const required = [...new Set([...((a.required as string[]) ?? []), ...((b.required as string[]) ?? [])])]
  return { ...a, ...b, ...(Object.keys(properties).length > 0 ? { properties } : {}), ...(required.length > 0 ? { required } : {}) }
}

function typeOf(schema: Schema): unknown {
  if (typeof schema.type === 'string') return schema.type
  if (Array.isArray(schema.type)) return schema.type.find((type) => type !== 'null') ?? 'null'
  if ('items' in schema || 'prefixItems' in schema) return 'array'
  if ('minLength' in schema || 'maxLength' in schema || 'pattern' in schema || 'format' in schema) return 'string'
  if ('minimum' in schema || 'maximum' in schema || 'multipleOf' in schema) return 'number'
  return 'object'
}

function sampleObject(schema: Schema, source: Source, depth: number): Schema {
  const properties = (schema.properties ?? {}) as Record<string, unknown>
  const required = Array.isArray(schema.required) ? (schema.required as string[]) : []
  const wanted = depth < deep ? [...new Set([...Object.keys(properties), ...required])] : required
  const value: Schema = {}
  for (const key of wanted) {
    const property = asSchema(Object.hasOwn(properties, key) ? properties[key] : schema.additionalProperties)
    if (property === false || (depth >= deepest && typeof property === 'object')) continue
    Object.defineProperty(value, key, { value: sample(property, source, depth + 1), enumerable: true, configurable: true, writable: true })
  }
  const extra = asSchema(schema.additionalProperties ?? {})
  for (let n = 1; Object.keys(value).length < numberOr(schema.minProperties, 0) && extra !== false && n <= 100; n++)
    value[`demo${n}`] = sample(extra, source, depth + 1)
  return value
}

function sampleArray(schema: Schema, source: Source, depth: number): unknown[] {
  const first = Array.isArray(schema.prefixItems) ? schema.prefixItems : Array.isArray(schema.items) ? schema.items : []
  const rest = asSchema(Array.isArray(schema.items) ? (schema.additionalItems ?? {}) : (schema.items ?? {}))
  const least = Math.min(numberOr(schema.minItems, 0), 100)
  const length = Math.min(Math.max(least, depth < deep ? first.length || 1 : 0), numberOr(schema.maxItems, Number.POSITIVE_INFINITY))
  const value: unknown[] = []
  for (let index = 0; index < length; index++) {
    const item = index < first.length ? asSchema(first[index]) : rest
    if (item === false || (depth >= deepest && index >= least)) break
    value.push(sample(item, source, depth + 1))
  }
  return schema.uniqueItems === true ? distinct(value) : value
}

/** Numbers and strings that repeat are told apart; others are dropped. */
function distinct(values: readonly unknown[]): unknown[] {
  const seen = new Set<string>()
  return values.flatMap((value, index) => {
    const other = !seen.has(JSON.stringify(value)) ? value : typeof value === 'number' ? value + index : typeof value === 'string' ? `${value}${index}` : value
    const key = JSON.stringify(other)
    if (seen.has(key)) return []
    seen.add(key)
    return [other]
  })
}

function sampleNumber(schema: Schema, source: Source): number {
  const integer = typeOf(schema) === 'integer'
  const step = numberOr(schema.multipleOf, integer ? 1 : 0)
  let low = numberOr(schema.minimum, Number.NEGATIVE_INFINITY)
  let high = numberOr(schema.maximum, Number.POSITIVE_INFINITY)
  const nudge = step || (Number.isFinite(high - low) ? (high - low) / 1_024 : 1)
  if (typeof schema.exclusiveMinimum === 'number' && schema.exclusiveMinimum >= low)
    low = schema.exclusiveMinimum + (integer && !step ? 1 : nudgeOf(schema.exclusiveMinimum, high, nudge))
  if (typeof schema.exclusiveMaximum === 'number' && schema.exclusiveMaximum <= high)
    high = schema.exclusiveMaximum - nudgeOf(low, schema.exclusiveMaximum, nudge)
  const fits = (value: number) => value >= low && value <= high && (!integer || Number.isInteger(value)) && (!step || Number.isInteger(value / step))
  const at = source.numbers.findIndex(fits)
  if (at >= 0) return source.numbers.splice(at, 1)[0] as number
  for (const value of [1, low, high, 0]) {
    if (!Number.isFinite(value)) continue
    const near = step ? Math.ceil(value / step) * step : value
    for (const candidate of [near, step ? near - step : near]) if (fits(candidate)) return candidate
  }
  return Number.isFinite(low) ? low : Number.isFinite(high) ? high : 1
}

function nudgeOf(low: number, high: number, nudge: number): number {
  return Number.isFinite(low) && Number.isFinite(high) && high - low <= nudge ? (high - low) / 2 : nudge
}

const formats: Readonly<Record<string, string>> = {
  'date-time': '2026-01-01T12:00:00Z',
  date: '2026-01-01',
  time: '12:00:00Z',
  duration: 'P1D',
  email: 'demo@example.com',
  'idn-email': 'demo@example.com',
  hostname: 'example.com',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  uri: 'https://example.com/',
  'uri-reference': 'https://example.com/',
  iri: 'https://example.com/',
  url: 'https://example.com/',
  uuid: '00000000-0000-4000-8000-000000000000',
  regex: '.*',
  'json-pointer': '/demo',
}

function sampleString(schema: Schema, source: Source): string {
  const least = numberOr(schema.minLength, 0)
  const most = numberOr(schema.maxLength, Number.POSITIVE_INFINITY)
  const pattern = toRegExp(schema.pattern)
  const form = formats[String(schema.format)]
  const fits = (value: string) => [...value].length >= least && [...value].length <= most && (!pattern || pattern.test(value))
  if (form !== undefined && fits(form)) return form
  const quoted = source.quoted.findIndex(fits)
  if (quoted >= 0) return source.quoted.splice(quoted, 1)[0] as string
  const words = source.prompt.split(/\s+/).filter(Boolean)
  const found = [
    source.prompt,
    ...words,
    ...words.map((word) => word.replace(/^\W+|\W+$/g, '')),
    'demo',
    'Demo',
    'DEMO',
    'a',
    'A',
    '1',
    '12',
    '2026-01-01',
    '12:00',
    '#000000',
  ].find(fits)
  if (found !== undefined) return found
  const chars = [...(source.prompt || 'demo')]
  while (chars.length < Math.min(least, longestString)) chars.push(' demo'[chars.length % 5] as string)
  return chars.slice(0, most).join('')
}

function toRegExp(pattern: unknown): RegExp | null {
  if (typeof pattern !== 'string' || pattern.length > 1_000) return null
  try {
    return new RegExp(pattern, 'u')
  } catch {
    return null
  }
}

function mentions(prompt: string, value: string): boolean {
  return value !== '' && prompt.toLowerCase().includes(value.toLowerCase())
}

function isFlat(schema: Schema | boolean): boolean {
  return typeof schema === 'object' && !('$ref' in schema) && !('properties' in schema) && !('items' in schema)
}

function asSchema(value: unknown): Schema | boolean {
  return typeof value === 'boolean' ? value : typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Schema) : true
}

function numberOr(value: unknown, other: number): number {
  return typeof value === 'number' ? value : other
}
