/** Text as the database can keep it: PostgreSQL has no U+0000, and half of a character is none. */

/** The same, with U+FFFD in the place of what cannot be kept. */
export function storable(text: string): string {
  return text.replaceAll('\0', '\ufffd').toWellFormed()
}

/** Its beginning, storable, of at most so many UTF-16 units; no character is halved. */
export function beginning(text: string, length: number): string {
  return storable(text.slice(0, length).replace(/[\ud800-\udbff]$/, ''))
}

/** A value as JSON, each text and each name in it storable; what is no JSON is gone. */
export function storableJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, (_, each) => (typeof each === 'string' ? storable(each) : withStorableNames(each))))
}

function withStorableNames(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [storable(name), each]))
}
