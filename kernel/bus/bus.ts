/** The bus: events from those who publish to those who listen. What is durable goes through the log, which a plugin provides. Design §5. */
import type { OpenDatabase } from '../contract/database.ts'
import { inTime } from '../contract/deadlines.ts'
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import type { DurableLog, EventDelivery } from '../contract/event-log.ts'
import type { KernelStats } from '../contract/kernel-service.ts'
import type { Clock, ListenOptions, Logger, PublishOptions } from '../contract/plugin.ts'
import type { EventRef } from '../contract/refs.ts'
import { contextOf } from '../contract/request.ts'
import { createCatalogue, misuse, type OwnedListener, type Topic } from './catalogue.ts'
import { createUids } from './uid.ts'

/** What the bus works with. */
export interface BusOptions {
  readonly log: Logger
  readonly clock: Clock
  /** ms after which a live listener that does not settle is reported; default five minutes. */
  readonly patienceMs?: number
  /** Where transactions are told of. */
  database(): Pick<OpenDatabase, 'inTransaction' | 'outsideTransaction'>
  /** Hears every fault of a listener, with the plugin that owns it. */
  onError(owner: string, what: string, error: unknown): void
}

/** The bus. */
export type Bus = ReturnType<typeof createBus>

/** Creates the bus. Listeners may come at once, durable events after `open`. */
export function createBus({ log, clock, patienceMs = 300_000, database, onError }: BusOptions) {
  const catalogue = createCatalogue()
  const nextUid = createUids()
  const counters = { 'bus.published.live': 0, 'bus.published.durable': 0, 'bus.delivered': 0 }
  let watchers: readonly OwnedListener<EventDelivery>[] = []
  let durable: Omit<DurableLog, 'start'> = { write: async () => notYet(), subscribe: notYet, stop: async () => {} }
  let [now, text, isNow] = [-1, '', false]

  function failed(owner: string, type: string, error: unknown): void {
    database().outsideTransaction(() => {
      try {
        onError(owner, `listener of "${type}"`, error)
      } catch (fault) {
        log.error('A fault could not be reported', { owner, type, error, fault })
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

  function stamped(type: string, source: string, data: unknown, { subject, principal, request }: PublishOptions): GatewayEvent {
    return { type, data, uid: nextUid(), time: timestamp(), source, subject, principal, trace: request && contextOf(request).traceparent }
  }

  function publishLive({ type, listeners }: Topic, source: string, data: unknown, about: PublishOptions): void {
    counters['bus.published.live']++
    if (listeners.length === 0 && watchers.length === 0) return
    const event = stamped(type, source, data, about)
    counters['bus.delivered'] += listeners.length
    for (const listener of listeners) tell(listener, event)
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

  const countDurable = () => {
    counters['bus.published.durable']++
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
    types: catalogue.types,
    /**
     * Publishes an event of `source`. Live: delivered before it returns. Durable: settles when the log has stored it.
     * @throws GatewayError `plugin_failed`, at once and by name: not the owner, data that does not fit, a live event with `tx`, what the log does not take
     */
    publish(source: string, ref: EventRef, data: unknown, about: PublishOptions = {}): void | Promise<void> {
      const topic = catalogue.checked(source, ref.type, data)
      if (topic.ref.durable) return durable.write(stamped(ref.type, source, data, about), about.tx).then(countDurable)
      if (about.tx) throw misuse(source, ref.type, 'is live and cannot be part of a transaction: publish it after the commit, without tx')
      const { inTransaction, outsideTransaction } = database()
      return inTransaction() ? outsideTransaction(() => publishLive(topic, source, data, about)) : publishLive(topic, source, data, about)
    },
    /** Listens; returns the undo. With `cursor` in order, at least once, on one process; order is kept per cursor and type. */
    on(owner: string, ref: EventRef, listener: OwnedListener['call'], { cursor, from = 'now', deadline = 300_000 }: ListenOptions = {}): () => void {
      const { type } = ref
      if (cursor === undefined) return catalogue.listen(type, { owner, call: listener })
      if (!ref.durable) throw misuse(owner, type, 'is live and has no cursor: listen without one')
      return durable.subscribe({ owner, cursor, type, from, deadline, handle: listener })
    },
    /** Every event, live and durable, as it is delivered here; returns the undo. */
    subscribeAll(call: (event: EventDelivery) => unknown): () => void {
      const own = { owner: 'kernel', call }
      watchers = [...watchers, own]
      return () => {
        watchers = watchers.filter((other) => other !== own)
      }
    },
    /** Starts the log, once; from then on durable events flow. */
    async open(given: DurableLog): Promise<void> {
      durable = given
      await given.start(deliver)
    },
    /** Resolves when what was published is in the log and delivered, and subscriptions are let go; at most some seconds. */
    stop: (): Promise<void> => durable.stop(),
    stats: (): KernelStats => ({ gauges: {}, counters: { ...counters } }),
  }
}

function notYet(): never {
  throw new GatewayError('unavailable', 'The event log does not run yet: only what it needs itself is set up before it, and has no durable events.')
}

/** A live event: it has no place in the log, and becomes JSON only when somebody wants it so. */
class LiveDelivery implements EventDelivery {
  readonly id = undefined
  readonly forms = {}
  readonly type: string
  readonly principal: string | undefined
  readonly event: GatewayEvent
  #json: string | undefined

  constructor(event: GatewayEvent) {
    this.type = event.type
    this.principal = event.principal
    this.event = event
  }

  get json(): string {
    this.#json ??= JSON.stringify(this.event.data) ?? 'null'
    return this.#json
  }
}
