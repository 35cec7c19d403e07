/** The bus: events from those who publish to those who listen. What is durable goes through the log, which a plugin provides. Design §5. */
import type { DatabaseAccess } from '../contract/database.ts'
import { inTime } from '../contract/deadlines.ts'
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import type { EventDelivery, EventLog } from '../contract/event-log.ts'
import type { EventTypeInfo, EventView, KernelStats } from '../contract/kernel-service.ts'
import type { Clock, ListenOptions, Logger, PublishOptions } from '../contract/plugin.ts'
import type { Principal } from '../contract/principal.ts'
import type { EventRef } from '../contract/refs.ts'
import { contextOf } from '../contract/request.ts'
import { createCatalogue, type OwnedListener, type Topic } from './catalogue.ts'
import { createUids } from './uid.ts'
import { createView } from './view.ts'

/** What the bus works with. */
export interface BusOptions {
  readonly log: Logger
  readonly clock: Clock
  /** ms after which a live listener that does not settle is reported; default five minutes. */
  readonly patienceMs?: number
  /** Where transactions are told of. */
  database(): Pick<DatabaseAccess, 'inTransaction' | 'outsideTransaction'>
  /** Hears every fault of a listener, with the plugin that owns it. */
  onError(owner: string, what: string, error: unknown): void
}

/** The bus. */
export interface Bus {
  /** Replaces the whole catalogue. Listeners stay. */
  register(types: readonly EventTypeInfo[]): void
  /**
   * Publishes an event of `source`. Live: delivered before it returns. Durable: settles when its row is written.
   * @throws GatewayError `plugin_failed`, at once and by name: not the owner, data that does not fit, a durable event without `tx` inside a transaction
   */
  publish(source: string, ref: EventRef, data: unknown, options?: PublishOptions): void | Promise<void>
  /** Listens; returns the undo. With `cursor` in order, at least once, on one process; order is kept per cursor and type. */
  // biome-ignore lint/suspicious/noExplicitAny: the ref types it for the plugin
  on(owner: string, ref: EventRef, listener: (event: GatewayEvent<string, any>) => unknown, options?: ListenOptions): () => void
  /** Every event, live and durable, as it is delivered here; returns the undo. */
  subscribeAll(listener: (event: EventDelivery) => unknown): () => void
  /** What the principal may see of the types that match. @throws GatewayError `validation_failed` on a malformed pattern */
  view(principal: Principal, types?: readonly string[]): EventView
  /** Starts the log, once; from then on durable events flow. */
  open(log: EventLog): Promise<void>
  /** Resolves when what was published is in the log and delivered, and subscriptions are let go; at most some seconds. */
  stop(): Promise<void>
  stats(): KernelStats
}

const maxDataLength = 1024 * 1024

/** Creates the bus. Listeners may come at once, durable events after `open`. */
export function createBus({ log, clock, patienceMs = 300_000, database, onError }: BusOptions): Bus {
  const catalogue = createCatalogue()
  const nextUid = createUids()
  const counters = { 'bus.published.live': 0, 'bus.published.durable': 0, 'bus.delivered': 0 }
  let watchers: readonly OwnedListener<EventDelivery>[] = []
  let durable: EventLog | undefined
  let [now, text, isNow] = [-1, '', false]

  function failed(owner: string, type: string, error: unknown): void {
    report(owner, `listener of "${type}"`, error)
  }

  function report(owner: string, what: string, error: unknown): void {
    database().outsideTransaction(() => {
      try {
        onError(owner, what, error)
      } catch (fault) {
        log.error('A fault could not be reported', { owner, what, error, fault })
      }
    })
  }

  const late = () => new Error(`it did not settle within ${patienceMs} ms`)

  function tell<E extends { readonly type: string }>({ owner, call }: OwnedListener<E>, event: E): void {
    try {
      const result = call(event)
      if (typeof result === 'object' && result !== null && 'then' in result)
        inTime(Promise.resolve(result), patienceMs, late).catch((error) => failed(owner, event.type, error))
    } catch (error) {
      failed(owner, event.type, error)
    }
  }

  function publishLive(topic: Topic, source: string, data: unknown, { subject, principal, request }: PublishOptions): void {
    counters['bus.published.live']++
    if (topic.listeners.length === 0 && watchers.length === 0) return
    const event: GatewayEvent = { type: topic.type, data, uid: nextUid(), time: timestamp(), source, subject, principal, trace: traceOf(request) }
    counters['bus.delivered'] += topic.listeners.length
    for (const listener of topic.listeners) tell(listener, event)
    if (watchers.length === 0) return
    const delivery = new LiveDelivery(event)
    for (const watcher of watchers) tell(watcher, delivery)
  }

  function deliver(events: readonly EventDelivery[]): void {
    for (const event of events) {
      const { listeners } = catalogue.topic(event.type)
      counters['bus.delivered'] += listeners.length
      // An event is parsed only if someone listens.
      for (const listener of listeners) tell(listener, event.event)
      for (const watcher of watchers) tell(watcher, event)
    }
  }

  async function publishDurable(type: string, source: string, data: string, about: PublishOptions): Promise<void> {
    const { subject = null, principal = null, request, tx } = about
    await running().write({ uid: nextUid(), type, source, subject, principal, trace: traceOf(request) ?? null, time: timestamp(), data }, tx)
    counters['bus.published.durable']++
  }

  function running(): EventLog {
    if (durable) return durable
    throw new GatewayError('unavailable', 'The event log does not run yet: only what it needs itself is set up before it, and has no durable events.')
  }

  const forgetNow = () => {
    isNow = false
  }
  /** What is published without an await between has one time, and a millisecond is written once: both cost more than telling a listener. */
  function timestamp(): string {
    if (isNow) return text
    isNow = true
    queueMicrotask(forgetNow)
    const ms = clock.now()
    if (ms !== now) [now, text] = [ms, new Date(ms).toISOString()]
    return text
  }

  return {
    register: catalogue.register,
    publish(source, ref, data, about = {}) {
      const topic = catalogue.checked(source, ref.type, data)
      if (!topic.ref.durable) {
        if (about.tx) throw misuse(source, ref.type, 'is live and cannot be part of a transaction: publish it after the commit, without tx')
        const { inTransaction, outsideTransaction } = database()
        return inTransaction() ? outsideTransaction(() => publishLive(topic, source, data, about)) : publishLive(topic, source, data, about)
      }
      if (!about.tx && database().inTransaction())
        throw misuse(
          source,
          ref.type,
          'was published inside a transaction without it: pass { tx }, so that the event exists exactly if the transaction commits',
        )
      return publishDurable(ref.type, source, toJson(source, ref.type, data, about), about)
    },
    on(owner, ref, listener, { cursor, from = 'now', deadline = 300_000 } = {}) {
      const { type } = ref
      if (cursor === undefined) return catalogue.listen(type, { owner, call: listener })
      if (!ref.durable) throw misuse(owner, type, 'is live and has no cursor: listen without one')
      return running().subscribe({ owner, name: cursor, type, from, deadline, handle: listener })
    },
    subscribeAll(call) {
      const own = { owner: 'kernel', call }
      watchers = [...watchers, own]
      return () => {
        watchers = watchers.filter((other) => other !== own)
      }
    },
    view: (principal, types) => createView(catalogue, principal, types),
    async open(given) {
      durable = given
      await given.start({ deliver, report })
    },
    async stop() {
      await durable?.stop()
    },
    stats: () => ({ gauges: {}, counters: { ...counters } }),
  }
}

/** A live event: it has no place in the log, and becomes JSON only when somebody wants it so. */
class LiveDelivery implements EventDelivery {
  readonly id = undefined
  readonly forms = {}
  readonly event: GatewayEvent
  #json: string | undefined

  constructor(event: GatewayEvent) {
    this.event = event
  }

  get type(): string {
    return this.event.type
  }

  get principal(): string | undefined {
    return this.event.principal
  }

  get json(): string {
    this.#json ??= JSON.stringify(this.event.data) ?? 'null'
    return this.#json
  }
}

function traceOf(request: Request | undefined): string | undefined {
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
