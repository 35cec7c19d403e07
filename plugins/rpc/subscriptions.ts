/** `events.subscribe`: what a connection missed from the log, then what happens. */
import { type EventDelivery, type EventLog, fromCursor, GatewayError, type Kernel, type LogFilter, type Logger, toCursor } from 'portico'
import type { RpcConnection } from './contract.ts'

/** Subscriptions of one connection. */
const maxSubscriptions = 16
const form = 'rpc/event'
const everything: LogFilter = { types: null, principal: null }

/** What a subscription asks for. */
export interface Asked {
  readonly types?: readonly string[]
  readonly since?: string
}

/** All subscriptions. */
export interface Subscriptions {
  /** @throws GatewayError `validation_failed` on a malformed cursor or pattern, `rate_limit_exceeded` when the connection has too many */
  open(connection: RpcConnection, asked: Asked): { subscription: string; cursor: string }
  /** False when there was none of that name. */
  close(connection: RpcConnection, subscription: string): boolean
}

/** Makes it. */
export function createSubscriptions(kernel: Pick<Kernel, 'eventView' | 'subscribeAll'>, eventLog: Pick<EventLog, 'head' | 'read'>, log: Logger): Subscriptions {
  const all = new WeakMap<RpcConnection, Map<string, () => void>>()
  let count = 0

  return {
    open(connection, { types, since }) {
      const own = all.get(connection) ?? new Map<string, () => void>()
      all.set(connection, own)
      if (own.size >= maxSubscriptions)
        throw new GatewayError('rate_limit_exceeded', `This connection has ${maxSubscriptions} subscriptions: end one with events.unsubscribe.`)
      const view = kernel.eventView(connection.principal, types)
      const id = `sub_${(++count).toString(36)}`
      let position = since === undefined ? eventLog.head() : fromCursor(since, 'since')
      let isLive = position >= eventLog.head()
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
      if (!isLive)
        // After the answer, so that the client knows the name before the first event.
        setTimeout(() => {
          replay().catch((error: unknown) => {
            log.warn('A subscription ended because the log could not be read', { error })
            if (!isOver) connection.notify('events.ended', { subscription: id, cursor: toCursor(position), why: 'The log could not be read: subscribe again.' })
            end()
          })
        }, 0)
      return opened

      function send(event: EventDelivery): void {
        event.forms[form] ??= toParams(event)
        if (!connection.notify('event', new Raw(`{"subscription":"${id}",${event.forms[form]}`))) end()
      }

      async function replay(): Promise<void> {
        while (!isOver && position < eventLog.head()) {
          const filter = view.filter()
          // Administrators are shown types that no plugin owns now as well.
          const { events, reached, trimmed } = await eventLog.read(position, filter.principal === null ? everything : filter)
          if (trimmed > position) connection.notify('events.gap', { subscription: id, oldest: toCursor(events[0]?.id ?? trimmed) })
          for (const event of events) if (!isOver && view.shows(event)) send(event)
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
