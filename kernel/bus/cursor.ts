/** Ids of the event log: one bigint inside, `<ms>-<n>` outside (the form of a Redis stream id). */
import { GatewayError } from '../contract/errors.ts'

const perMs = 1_000_000n
const highest = 2n ** 63n - 1n

/** The cursor of an id: `<ms>-<n>`. */
export function toCursor(id: bigint): string {
  return `${id / perMs}-${id % perMs}`
}

/** The id of a cursor. @throws GatewayError `validation_failed`, naming `param`. */
export function fromCursor(cursor: string, param: string): bigint {
  const match = /^(\d{1,13})-(\d{1,6})$/.exec(cursor)
  const id = match ? BigInt(match[1] ?? 0) * perMs + BigInt(match[2] ?? 0) : -1n
  if (id < 0n || id > highest)
    throw new GatewayError('validation_failed', 'The cursor is not of the form <ms>-<n>. Send the id of an event you received, or none to start from now.', {
      param,
    })
  return id
}

/** Milliseconds since the epoch of an id. */
export function msOf(id: bigint): number {
  return Number(id / perMs)
}

/** The later of two ids. */
export function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
