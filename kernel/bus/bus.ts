/** The bus: events from those who publish to those who listen, watch and replay. Design §5. */
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import type { EventReadOptions, EventStreamOptions, KernelStats } from '../contract/kernel-service.ts'
import type { Clock, ListenOptions, Logger, PublishOptions } from '../contract/plugin.ts'
import type { EventRef } from '../contract/refs.ts'
import { contextOf } from '../contract/request.ts'
import type { Store } from '../store/open.ts'
import { inTransaction, outsideTransaction } from '../store/transactions.ts'
import { createCatalogue, type OwnedEvent, type OwnedListener, type Topic, toTypeTest } from './catalogue.ts'
import { Delivery } from './delivery.ts'
import { readHead, readLog, readNewest } from './log.ts'
import type { BusParts, BusPeriods } from './parts.ts'
import { createPump } from './pump.ts'
import { createTrimmer, type Retention } from './retention.ts'
import { createStreams } from './streams.ts'
import { createSubscriptions } from './subscriptions.ts'
import { Tail } from './tail.ts'
import { createUids } from './uid.ts'

export type { OwnedEvent } from './catalogue.ts'

/** What the bus works with. */
export interface BusOptions {
  readonly store: Store
  readonly log: Logger
  readonly clock: Clock
  readonly retention: Retention
  /** Hears every fault of a listener, with the plugin that owns it. */
  onError(owner: string, what: string, error: unknown): void
  readonly periods?: Partial<BusPeriods>
}

/** The bus. */
export interface Bus {
  /** Replaces the whole catalogue. Listeners stay. */
  register(types: readonly OwnedEvent[]): void
  /**
   * Publishes an event of `source`. Live: delivered before it returns. Durable: settles when its row is written.
   * @throws GatewayError `plugin_failed`, at once and by name: not the owner, data that does not fit, a durable event without `tx` inside a transaction
   */
  publish(source: string, ref: EventRef, data: unknown, options?: PublishOptions): void | Promise<void>
  /** Listens; returns the undo. With `cursor` in order, at least once, on one process; order is kept per cursor and type. */
  // biome-ignore lint/suspicious/noExplicitAny: the ref types it for the plugin
  on(owner: string, ref: EventRef, listener: (event: GatewayEvent<string, any>) => unknown, options?: ListenOptions): () => void
  /** Every event, live and durable, as it is delivered here; returns the undo. */
  subscribeAll(listener: (event: GatewayEvent) => void): () => void
  /**
   * An SSE body: `ready`, what was missed since the cursor, then what happens. A cursor older than the log gets `gap` and what there is; one
   * beyond its end (another database) gets `gap` and what happens from now on.
   * @throws GatewayError `validation_failed` on a malformed cursor or pattern; what the request's `hold` throws
   */
  eventStream(options: EventStreamOptions): ReadableStream<Uint8Array>
  /** Of the newest 50,000 durable events those that the principal may see, newest first; at most a megabyte. */
  readEvents(options: EventReadOptions): Promise<readonly GatewayEvent[]>
  /** Loads the tail and appends what a crash left; then durable events flow. */
  start(): Promise<void>
  /** Ends every event stream; clients resume. */
  endStreams(): void
  /** Resolves when what was published is in the log and delivered, and subscriptions are let go; at most some seconds. */
  stop(): Promise<void>
  stats(): KernelStats
}

/** The bus's tables, migrated under the id `kernel` before `start`. */
export const busMigrations = new URL('./migrations/', import.meta.url)

const maxDataLength = 1024 * 1024
const stopMs = 5_000

/** Creates the bus. Listeners and streams may come at once, durable events flow after `start`. */
export function createBus(options: BusOptions): Bus {
  const { store, log, clock, retention } = options
  const catalogue = createCatalogue()
  const periods: BusPeriods = { ping: 15_000, poll: 2_000, lease: store.kind === 'pglite' ? 60_000 : 4_000, save: 200, trim: 60_000, ...options.periods }
  const parts: BusParts = { store, log, clock, catalogue, tail: new Tail(), periods, report }
  const subscriptions = createSubscriptions(parts)
  const pump = createPump(parts, deliverLogged)
  const trimmer = createTrimmer(parts, retention, () => appended)
  const streams = createStreams(parts, { read: (...where) => readLog(store.pool, ...where), lastId: async () => (await readHead(store.pool)).head })
  const nextUid = createUids()
  const published = { live: 0, durable: 0 }
  let [delivered, appended] = [0, 0]
  let watchers: readonly OwnedListener[] = []
  let now: string | undefined

  function report(owner: string, what: string, error: unknown): void {
    outsideTransaction(() => {
      try {
        options.onError(owner, what, error)
      } catch (fault) {
        log.error('A fault could not be reported', { owner, what, error, fault })
      }
    })
  }

  function call({ owner, call }: OwnedListener, event: GatewayEvent): void {
    delivered++
    try {
      const result = call(event)
      if (typeof result === 'object' && result !== null && 'then' in result)
        Promise.resolve(result).catch((error) => report(owner, `listener of "${event.type}"`, error))
    } catch (error) {
      report(owner, `listener of "${event.type}"`, error)
    }
  }

  function tell(listeners: readonly OwnedListener[], event: GatewayEvent): void {
    for (const listener of listeners) call(listener, event)
    for (const watcher of watchers) call(watcher, event)
  }

  function deliverLogged(events: readonly Delivery[]): void {
    appended += events.length
    for (const delivery of events) {
      const { listeners } = catalogue.topic(delivery.type)
      if (listeners.length > 0 || watchers.length > 0) tell(listeners, delivery.event)
    }
    streams.deliver(events)
    if (subscriptions.count() > 0) subscriptions.wake(new Set(events.map(({ type }) => type)))
  }

  function publishLive({ type, listeners }: Topic, source: string, data: unknown, about: PublishOptions): void {
    published.live++
    const streamed = streams.count() > 0
    if (listeners.length === 0 && watchers.length === 0 && !streamed) return
    const event: GatewayEvent = {
      type,
      data,
      uid: nextUid(),
      time: timestamp(),
      source,
      subject: about.subject,
      principal: about.principal,
      trace: traceOf(about),
    }
    tell(listeners, event)
    if (streamed) streams.deliver([Delivery.live(event)])
  }

  async function publishDurable(type: string, source: string, data: string, about: PublishOptions): Promise<void> {
    const { subject = null, principal = null } = about
    const row = { uid: nextUid(), type, source, subject, principal, trace: traceOf(about) ?? null, time: timestamp(), data }
    await (about.tx ? pump.writeIn(about.tx, row) : pump.write(row))
    published.durable++
  }

  /** What is published without an await between has one time: asking for it costs more than telling a listener. */
  function timestamp(): string {
    if (now === undefined) {
      now = new Date(clock.now()).toISOString()
      queueMicrotask(() => {
        now = undefined
      })
    }
    return now
  }

  function listen(owner: string, ref: EventRef, listener: OwnedListener['call']): () => void {
    const own: OwnedListener = { owner, call: listener }
    const topic = catalogue.topic(ref.type)
    topic.listeners = [...topic.listeners, own]
    return () => {
      const now = catalogue.topic(ref.type)
      now.listeners = now.listeners.filter((other) => other !== own)
    }
  }

  return {
    register: catalogue.register,
    publish(source, ref, data, about = {}) {
      const topic = catalogue.checked(source, ref.type, data)
      if (!topic.ref.durable) {
        if (about.tx) throw misuse(source, ref.type, 'is live and cannot be part of a transaction: publish it after the commit, without tx')
        return inTransaction() ? outsideTransaction(() => publishLive(topic, source, data, about)) : publishLive(topic, source, data, about)
      }
      if (!about.tx && inTransaction())
        throw misuse(
          source,
          ref.type,
          'was published inside a transaction without it: pass { tx }, so that the event exists exactly if the transaction commits',
        )
      return publishDurable(ref.type, source, toJson(source, ref.type, data, about), about)
    },
    on(owner, ref, listener, how = {}) {
      if (how.cursor === undefined) return listen(owner, ref, listener)
      if (!ref.durable) throw misuse(owner, ref.type, 'is live and has no cursor: listen without one')
      return subscriptions.add({ owner, name: how.cursor, type: ref.type }, { owner, call: listener }, how.from ?? 'now')
    },
    subscribeAll(listener) {
      const own: OwnedListener = { owner: 'kernel', call: listener }
      watchers = [...watchers, own]
      return () => {
        watchers = watchers.filter((other) => other !== own)
      }
    },
    eventStream: streams.open,
    async readEvents({ principal, types, limit }) {
      const wants = toTypeTest(types)
      const visible = catalogue.types().filter((type) => (wants?.(type) ?? true) && catalogue.allows(principal, type))
      const isAdmin = principal.scopes.includes('admin')
      const events = await readNewest(store.pool, limit, { types: isAdmin && !wants ? null : visible, principal: isAdmin ? null : principal.id })
      return events.map(({ event }) => event)
    },
    async start() {
      await pump.start()
      await subscriptions.start()
      trimmer.start()
    },
    endStreams: streams.end,
    async stop() {
      await trimmer.stop()
      await subscriptions.stop(stopMs)
      await pump.stop(stopMs)
      streams.end()
    },
    stats: () => ({
      gauges: {
        ...{
          'bus.readers': streams.count(),
          'bus.queue.bytes': streams.waitingBytes(),
          'bus.tail.events': parts.tail.length,
          'bus.tail.bytes': parts.tail.size,
        },
        ...{ 'bus.outbox.pending': pump.pending(), 'bus.outbox.lag': pump.lagMs() / 1000 },
        ...{ 'bus.subscriptions': subscriptions.count(), 'bus.subscriptions.lag': subscriptions.lagMs() / 1000 },
      },
      counters: {
        ...{ 'bus.published.live': published.live, 'bus.published.durable': published.durable, 'bus.appended': appended, 'bus.delivered': delivered },
        ...{
          'bus.readers.cut': streams.cut(),
          'bus.subscriptions.retried': subscriptions.counters.retried,
          'bus.subscriptions.dead': subscriptions.counters.dead,
        },
      },
    }),
  }
}

function traceOf({ request }: PublishOptions): string | undefined {
  return request && contextOf(request).traceparent
}

function toJson(plugin: string, type: string, data: unknown, { subject, principal }: PublishOptions): string {
  // What PostgreSQL cannot store would fail the events of others that share the insert.
  if (subject?.includes('\0') || principal?.includes('\0')) throw misuse(plugin, type, 'has a subject or principal with a NUL in it: leave that out')
  let json: string
  try {
    json = JSON.stringify(data) ?? 'null'
  } catch (cause) {
    throw misuse(plugin, type, 'has data that is not JSON: publish plain values', cause)
  }
  if (json.length > maxDataLength) throw misuse(plugin, type, 'has more than a megabyte of data: store it, and publish where it is')
  return json
}

function misuse(plugin: string, type: string, what: string, cause?: unknown): GatewayError {
  return new GatewayError('plugin_failed', `The event "${type}" ${what}.`, { plugin, cause })
}
