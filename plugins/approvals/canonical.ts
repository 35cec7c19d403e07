/** The hash by which an approval is bound to exact arguments. */
import { createHash } from 'node:crypto'

/** JSON in its one canonical form: RFC 8785, for values that came out of JSON. */
export function toCanonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toCanonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  // Sorted by UTF-16 code units (§3.2.3), as `<` compares.
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([key, each]) => `${JSON.stringify(key)}:${toCanonicalJson(each)}`).join(',')}}`
}

/** SHA-256 of the canonical form, hex. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256').update(toCanonicalJson(value)).digest('hex')
}
