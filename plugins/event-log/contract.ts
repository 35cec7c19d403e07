/** What other plugins may use of the event log: the past, and the cursors in it. */
import { type DurableLog, defineService, type EventDelivery, GatewayError, type Transaction } from 'portico'

/** LISTEN, on a connection of its own that comes back by itself. */
export { startListening } from './listen.ts'

/** An event of the log. */
export interface LoggedEvent extends EventDelivery {
  readonly id: bigint
}

/** Which events of the log. */
export interface LogFilter {
  /** Null = every type. */
  readonly types: readonly string[] | null
  /** Leaves out what belongs to another principal; null = nobody is asking. */
  readonly principal: string | null
}

/** A page of the log, bounded in rows and bytes. */
export interface LogPage {
  /** Oldest first. */
  readonly events: readonly LoggedEvent[]
  /** Everything up to this id was looked at. */
  readonly reached: bigint
  /** The highest id that retention has removed: a reader who stands before it has missed events. */
  readonly trimmed: bigint
}

/** Events that are to be written by an SQL function of yours, with what else it writes: one call of the database instead of a transaction round several. */
export interface EventBatch {
  /** `ctx.publish(ref, data, { tx })` with this gathers the event, checked as ever. It takes events and nothing else. */
  readonly tx: Transaction
  /** What was gathered, in order: JSON for the SQL function `event_log_put(jsonb)`, which yours calls. */
  json(): string
  /** To be called once they are committed: they are delivered then, otherwise some seconds later. */
  committed(): void
}

/** The log: what the kernel writes to, and what those who show the past read. */
export interface EventLog extends DurableLog {
  /** The id of the last event that was delivered here; 0 = none. */
  head(): bigint
  /** The last id ever given, asked of the store: other processes may be ahead. */
  lastId(): Promise<bigint>
  /** The events after a position. The filter spares work: what it leaves out may still be among them. */
  read(position: bigint, filter: LogFilter): LogPage | Promise<LogPage>
  /** The newest events that pass the filter, newest first: of the last 50,000 or more, at most a megabyte. */
  newest(limit: number, filter: LogFilter): Promise<readonly LoggedEvent[]>
  /** Gathers events for an SQL function. */
  batch(): EventBatch
}

/** The service of the kernel's `durableLog`, with all that it has. */
export const eventLog = defineService<EventLog>('event-log')

const perMs = 1_000_000n
const highest = 2n ** 63n - 1n

/** The cursor of an id, ms × 10⁶ + n: `<ms>-<n>`, the form of a Redis stream id. */
export function toCursor(id: bigint): string {
  return `${id / perMs}-${id % perMs}`
}

/** The id of a cursor. @throws GatewayError `validation_failed`, naming `param`. */
export function fromCursor(cursor: string, param: string): bigint {
  const match = /^(\d{1,13})-(\d{1,6})$/.exec(cursor)
  const id = match ? BigInt(match[1] ?? 0) * perMs + BigInt(match[2] ?? 0) : -1n
  if (id >= 0n && id <= highest) return id
  throw new GatewayError('validation_failed', 'The cursor is not of the form <ms>-<n>. Send the id of an event you received, or none to start from now.', {
    param,
  })
}
