/** A table of a TOML file, as it is read. */

/** Its keys and their values. */
export type Table = { [key: string]: unknown }

/** True for a table: not a list, not a date. */
export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
