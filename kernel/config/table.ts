/** Tables as they come out of TOML: spellings of keys, forbidden keys, paths. */
import type { Problem } from '../contract/problem.ts'

/** Where in a section: keys and indexes. */
export type Path = readonly (string | number)[]

/** A TOML table. */
export type Table = { [key: string]: unknown }

/** True for a table: a plain object, not a list or a date. */
export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

/** `max_age_days` → `maxAgeDays`. */
export function fold(key: string): string {
  return key.replace(/_+([a-zA-Z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

/** A section's name in the form of a plugin's id: `authToken`, `auth_token` → `auth-token`. */
export function toSectionId(key: string): string {
  return key.replace(/[A-Z_]/g, (char) => `-${char === '_' ? '' : char.toLowerCase()}`).replace(/^-/, '')
}

/** `['tokens', 0, 'secret']` → `tokens[0].secret`. */
export function pathText(path: Path): string {
  const parts = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part)}`))
  return parts.join('').replace(/^\./, '')
}

const forbidden = new Set(['__proto__', 'constructor', 'prototype'])

/** A copy without keys that could reach an object's prototype; each one is a problem. */
export function withoutPrototypeKeys(value: unknown, path: Path, problems: Problem[]): unknown {
  if (Array.isArray(value)) return value.map((entry, index) => withoutPrototypeKeys(entry, [...path, index], problems))
  if (!isTable(value)) return value
  const out: Table = {}
  for (const [key, entry] of Object.entries(value)) {
    if (forbidden.has(key)) problems.push({ where: 'config', key: pathText([...path, key]), what: 'this name is not allowed for a key' })
    else out[key] = withoutPrototypeKeys(entry, [...path, key], problems)
  }
  return out
}
