/** The two spellings of a key in `portico.toml`, as the gateway reads them. */

/** `max_age_days` → `maxAgeDays`. */
export function fold(key: string): string {
  return key.replace(/_+([a-zA-Z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

/** `maxAgeDays` → `max_age_days`. */
export function toSnake(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** `auth-token` → `authToken`. */
export function toCamel(id: string): string {
  return id.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
}

/** A section's name in the form of a plugin's id: `authToken`, `auth_token` → `auth-token`. */
export function toSectionId(key: string): string {
  return toSnake(key).replaceAll('_', '-').replace(/^-/, '')
}
