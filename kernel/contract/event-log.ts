/**
 * The event log as infrastructure: what the bus writes to and hears from it, and what those who show the past read. Plugins publish and listen by `ctx`.
 *
 * The kernel drives whoever provides it: `start` once, before any other plugin is set up; `stop` once, after all of them are undone.
 */
import { GatewayError } from './errors.ts'
import type { GatewayEvent } from './event.ts'
import type { Transaction } from './plugin.ts'
import { defineService } from './refs.ts'

/** A durable event as it is published: validated and stamped, its place in the log not given yet. */
export interface EventRecord {
  readonly uid: string
  readonly type: string
  readonly source: string
  readonly subject: string | null
  readonly principal: string | null
  readonly trace: string | null
  /** RFC 3339, UTC. */
  readonly time: string
  /** JSON. */
  readonly data: string
}

/** An event on its way to those who hear it: each of its forms is made once, when the first asks, and shared. */
export interface EventDelivery {
  readonly type: string
  /** The principal it belongs to. */
  readonly principal: string | undefined
  /** Its place in the log, see `toCursor`; durable events only. */
  readonly id: bigint | undefined
  /** Its data as JSON. */
  readonly json: string
  /** As listeners see it. */
  readonly event: GatewayEvent
  /** Forms that plugins make of it, as a frame of a stream, kept with it for all who need the same. A key begins with its plugin's id. */
  readonly forms: Record<string, unknown>
}

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

/** Who is told. Neither function throws. */
export interface LogSink {
  /** Gets every event of the log, whichever process wrote it, once, in the log's order, some at a time. */
  deliver(events: readonly LoggedEvent[]): void
  /** Hears what a durable subscription could not do, with the plugin that owns it. */
  report(owner: string, what: string, error: unknown): void
}

/** A durable subscription: its events in order, one at a time, at least once, on one process, continuing at its stored cursor. */
export interface DurableListener {
  readonly owner: string
  /** With `owner` and `type` it names the cursor. */
  readonly name: string
  readonly type: string
  /** Where it begins the first time. */
  readonly from: 'now' | 'oldest'
  /** ms in which `handle` has to settle. */
  readonly deadline: number
  handle(event: GatewayEvent): unknown
}

/** The durable part of the bus. */
export interface EventLog {
  /** Begins; resolves when what a crash left is in the log, or after some seconds. */
  start(sink: LogSink): Promise<void>
  /** Settles when the record is stored: with `tx` it is stored exactly if that commits. @throws GatewayError `database_unavailable`, `unavailable` */
  write(record: EventRecord, tx?: Transaction): Promise<void>
  /** Subscribes; returns the undo, after which no event begins any more. */
  subscribe(listener: DurableListener): () => void
  /** The id of the last event that was delivered here; 0 = none. */
  head(): bigint
  /** The last id ever given, asked of the store: other processes may be ahead. */
  lastId(): Promise<bigint>
  /** The events after a position. The filter spares work: what it leaves out may still be among them. */
  read(position: bigint, filter: LogFilter): LogPage | Promise<LogPage>
  /** The newest events that pass the filter, newest first: of the last 50,000 or more, at most a megabyte. */
  newest(limit: number, filter: LogFilter): Promise<readonly LoggedEvent[]>
  /** Resolves when all that was written is in the log and delivered, and subscriptions are let go; at most some seconds. */
  stop(): Promise<void>
}

/** Provided by one plugin; no gateway runs without. */
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
