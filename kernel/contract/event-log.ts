/**
 * The event log as the bus needs it. Whoever shows the past needs more of it: see the contract of the plugin `event-log`. Plugins publish and listen by `ctx`.
 *
 * The kernel drives whoever provides it: `start` once, before any other plugin is set up; `stop` once, after all of them are undone.
 */
import type { GatewayEvent } from './event.ts'
import type { ListenOptions, Transaction } from './plugin.ts'
import { defineService } from './refs.ts'

/** An event on its way to those who hear it: each of its forms is made once, when the first asks, and shared. */
export interface EventDelivery {
  readonly type: string
  /** The principal it belongs to. */
  readonly principal: string | undefined
  /** Its place in the log; durable events only. */
  readonly id: bigint | undefined
  /** Its data as JSON. */
  readonly json: string
  /** As listeners see it. */
  readonly event: GatewayEvent
  /** Forms that plugins make of it, as a frame of a stream, kept with it for all who need the same. A key begins with its plugin's id. */
  readonly forms: Record<string, unknown>
}

/** A durable subscription: its events in order, one at a time, at least once, on one process, continuing at its stored cursor. `owner`, `type` and `cursor` name that. */
export interface DurableListener extends Required<ListenOptions> {
  readonly owner: string
  readonly type: string
  handle(event: GatewayEvent): unknown
}

/** The durable part of the bus. */
export interface DurableLog {
  /** Begins; resolves when what a crash left is in the log, or after some seconds. `deliver` gets every event, whichever process wrote it, once, in the log's order, some at a time. */
  start(deliver: (events: readonly EventDelivery[]) => void): Promise<void>
  /**
   * Takes an event, checked and stamped, but without an id; settles when it is stored: with `tx` it is stored exactly if that commits.
   * @throws GatewayError at once, `plugin_failed`: it cannot be stored; rejects with `database_unavailable`, `unavailable`
   */
  write(event: GatewayEvent, tx?: Transaction): Promise<void>
  /** Subscribes; returns the undo, after which no event begins any more. */
  subscribe(listener: DurableListener): () => void
  /** Resolves when all that was written is in the log and delivered, and subscriptions are let go; at most some seconds. */
  stop(): Promise<void>
}

/** Provided by one plugin; no gateway runs without. */
export const durableLog = defineService<DurableLog>('event-log')
