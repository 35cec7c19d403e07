/** `events.subscribe`: what a connection missed from the log, then what happens. */
import { type Clock, type EventDelivery, GatewayError, type Kernel, type Logger } from 'portico'
import { type EventLog, fromCursor, type LogFilter, toCursor } from 'portico/plugins/event-log'
import { createEventView } from 'portico/plugins/events'
import type { RpcConnection } from './contract.ts'

/** Subscriptions of one connection. */
const maxSubscriptions = 16
/** Bytes that may wait for a client before what it missed goes on. */
const maxAhead = 262_144
/** ms between two looks at whether it has taken them, and until it is given up. */
const [pauseMs, patienceMs] = [20, 30_000]
const form = 'rpc/event'
const everything: LogFilter = { types: null, principal: null }

/** What a subscription asks for. */
export interface Asked {
  readonly types?: readonly string[]
  readonly since?: string
}

/** All subscriptions. */
export interface Subscriptions {
  /**
   * Begins when it is `answered`, so that the client knows the name before the first event. A cursor beyond the log's end (another database) gets a gap, and what happens from now on.
   * @throws GatewayError `validation_failed` on a malformed cursor or pattern, `rate_limit_exceeded` when the connection has too many
   */
  open(connection: RpcConnection, asked: Asked, answered: Promise<void>): { subscription: string; cursor: string }
  /** False when there was none of that name. */
  close(connection: RpcConnection, subscription: string): boolean
}

/** What they are made of. */
export interface SubscriptionsOptions {
  readonly kernel: Pick<Kernel, 'eventTypes' | 'subscribeAll'>
  readonly eventLog: Pick<EventLog, 'head' | 'lastId' | 'read'>
  readonly log: Logger
  readonly clock: Clock
}

/** Makes it. */
export function createSubscriptions({ kernel, eventLog, log, clock }: SubscriptionsOptions): Subscriptions {
  const all = new WeakMap<RpcConnection, Map<string, () => void>>()
  let count = 0

  return {
    open(connection, { types, since }, answered) {
      const own = all.get(connection) ?? new Map<string, () => void>()
      all.set(connection, own)
      if (own.size >= maxSubscriptions)
        throw new GatewayError('rate_limit_exceeded', `This connection has ${maxSubscriptions} subscriptions: end one with events.unsubscribe.`)
      const view = createEventView(kernel, connection.principal, types)
      const id = `sub_${(++count).toString(36)}`
      let position = since === undefined ? eventLog.head() : fromCursor(since, 'since')
      let isLive = false
      let isOver = false
      const unsubscribe = kernel.subscribeAll((event) => {
        if (!isLive || (event.id !== undefined && event.id <= position)) return
        position = event.id ?? position
        if (view.shows(event)) send(event)
      })
      const end = () => {
        if (isOver) return
        isOver = true
        unsubscribe()
        connection.signal.removeEventListener('abort', end)
        own.delete(id)
      }
      own.set(id, end)
      connection.signal.addEventListener('abort', end, { once: true })
      const opened = { subscription: id, cursor: toCursor(position) }
      void answered.then(replay).catch((error: unknown) => {
        log.warn('A subscription ended because the log could not be read', { error })
        giveUp('The log could not be read: subscribe again.')
      })
      return opened

      function send(event: EventDelivery): void {
        event.forms[form] ??= toParams(event)
        if (!connection.notify('event', new Raw(`{"subscription":"${id}",${event.forms[form]}`))) end()
      }

      function gap(oldest: bigint): void {
        connection.notify('events.gap', { subscription: id, oldest: toCursor(oldest) })
      }

      function giveUp(why: string): void {
        if (!isOver) connection.notify('events.ended', { subscription: id, cursor: toCursor(position), why })
        end()
      }

      /** Waits until the client has taken most of what was sent. False when it takes nothing. */
      async function hasRoom(): Promise<boolean> {
        const until = clock.now() + patienceMs
        while (!isOver && connection.behind > maxAhead) {
          if (clock.now() >= until) return false
          await clock.sleep(pauseMs, connection.signal).catch(() => undefined)
        }
        return true
      }

      async function replay(): Promise<void> {
        // Another node may be ahead of this one; what is beyond the log itself is of another log.
        if (position > eventLog.head() && position > (await eventLog.lastId())) {
          position = eventLog.head()
          gap(position)
        }
        while (!isOver && position < eventLog.head()) {
          const filter = view.filter()
          // Administrators are shown types that no plugin owns now as well.
          const { events, reached, trimmed } = await eventLog.read(position, filter.principal === null ? everything : filter)
          if (trimmed > position) gap(events[0]?.id ?? trimmed)
          for (const event of events) {
            if (connection.behind > maxAhead && !(await hasRoom())) return giveUp('What you missed was not taken: subscribe again from the cursor.')
            if (isOver) return
            if (view.shows(event)) send(event)
            position = event.id
          }
          for (const later of [reached, trimmed]) if (later > position) position = later
        }
        isLive = true
      }
    },

    close(connection, subscription) {
      const end = all.get(connection)?.get(subscription)
      end?.()
      return end !== undefined
    },
  }
}

/** JSON that is written already. */
export class Raw {
  readonly json: string

  constructor(json: string) {
    this.json = json
  }
}

/** All but the subscription's name is the same for every reader. `id` is the cursor, of durable events only. */
function toParams({ id, type, event: { uid, source, time, subject }, json }: EventDelivery): string {
  const head = JSON.stringify({ id: id === undefined ? undefined : toCursor(id), uid, type, time, source, subject })
  return `${head.slice(1, -1)},"data":${json}}`
}
