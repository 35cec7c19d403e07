/** Durable subscriptions: each event handled in order, one at a time, at least once, on one process, continuing at a stored cursor. */
import { randomUUID } from 'node:crypto'
import type { Clock, Logger } from '../contract/plugin.ts'
import type { Store } from '../store/open.ts'
import { outsideTransaction } from '../store/transactions.ts'
import type { OwnedListener } from './catalogue.ts'
import { later, msOf, toCursor } from './cursor.ts'
import type { Delivery } from './delivery.ts'
import { type CursorKey, freeCursors, saveCursors, takeCursors, writeDeadLetter } from './leases.ts'
import type { LogFilter, LogPage } from './log.ts'
import { pause } from './pump.ts'
import type { Tail } from './tail.ts'

/** What the subscriptions work with. */
export interface SubscriptionsOptions {
  readonly store: Store
  readonly log: Logger
  readonly clock: Clock
  readonly tail: Tail
  /** How long a process that died still keeps others from its subscriptions. */
  readonly leaseMs: number
  readonly saveMs: number
  read(position: bigint, filter: LogFilter): Promise<LogPage>
  onError(owner: string, what: string, error: unknown): void
}

/** The durable subscriptions of this process. */
export interface Subscriptions {
  readonly count: number
  /** ms between the newest event and the slowest subscription's place. */
  readonly lagMs: number
  readonly retried: number
  readonly deadLetters: number
  /** Subscribes; returns the undo, after which no event begins any more. */
  add(key: CursorKey, listener: OwnedListener, from: 'now' | 'oldest'): () => void
  /** Begins to take subscriptions and to handle events. */
  start(): Promise<void>
  /** Tells that the tail has grown by events of these types. */
  wake(types: ReadonlySet<string>): void
  /** Lets running handlers finish, at most `ms`, saves, and lets go. */
  stop(ms: number): Promise<void>
}

const retries = 10
const retryMs = 1_000
const longestRetryMs = 60_000

interface Subscription {
  readonly key: CursorKey
  readonly listener: OwnedListener
  readonly holder: string
  /** Where to start when there is no row yet; null = the oldest. */
  start: bigint | null
  /** Everything up to here is handled. */
  position: bigint
  saved: bigint
  epoch: bigint
  /** Set while this process holds it; aborted when it has to pause, because it lost it or ends. */
  hold: AbortController | null
  /** By `performance.now()`; counted from before the database was asked. */
  heldUntil: number
  ended: boolean
  /** Read from the log, not yet handled. */
  buffer: Delivery[]
  /** Set while there is nothing to handle. */
  wake: (() => void) | null
  running: Promise<void> | null
}

/** No subscriptions yet. */
export function createSubscriptions(options: SubscriptionsOptions): Subscriptions {
  const { store, log, clock, tail, leaseMs, saveMs, read, onError } = options
  const all = new Set<Subscription>()
  const totals = { retried: 0, deadLetters: 0 }
  let started = false
  let renewedAt = 0
  let triedAt = Number.NEGATIVE_INFINITY
  let timer: ReturnType<typeof setInterval> | undefined
  let ticking: Promise<void> | null = null
  let tickAgain = false

  function tick(): void {
    tickAgain = ticking !== null
    if (ticking || !started) return
    ticking = outsideTransaction(() => save().then(take))
      .catch((error) => log.debug('The cursors of durable subscriptions cannot be saved now', { error }))
      .finally(() => {
        ticking = null
        if (tickAgain) tick()
      })
  }

  async function save(): Promise<void> {
    const now = performance.now()
    const renew = now - renewedAt >= leaseMs / 4
    const rows = [...all].filter((one) => one.hold && (renew || one.position !== one.saved || (one.ended && !one.running)))
    if (rows.length === 0) return
    const held = rows.map((one) => ({ ...one.key, holder: one.holder, position: one.position, epoch: one.epoch, keep: !(one.ended && !one.running) }))
    const still = await saveCursors(store.pool, held, leaseMs)
    if (renew) renewedAt = now
    rows.forEach((one, at) => {
      const { position, keep } = held[at] as (typeof held)[number]
      if (still.has(one.holder) && keep) [one.saved, one.heldUntil] = [position, now + leaseMs]
      else if (one.hold) letGo(one)
      if (!keep) all.delete(one)
      if (!keep) triedAt = Number.NEGATIVE_INFINITY
    })
  }

  async function take(): Promise<void> {
    const now = performance.now()
    for (const one of all) if (one.ended && !one.hold && !one.running) all.delete(one)
    const wanting = new Map<string, Subscription>()
    for (const one of all) if (!one.hold && !one.ended && !one.running) wanting.set(JSON.stringify(one.key), wanting.get(JSON.stringify(one.key)) ?? one)
    if (wanting.size === 0 || now - triedAt < leaseMs / 4) return
    triedAt = now
    const wishes = [...wanting.values()].map(({ key, holder, start }) => ({ ...key, holder, position: start }))
    const taken = await takeCursors(store.pool, wishes, leaseMs)
    for (const one of wanting.values()) {
      const row = taken.get(one.holder)
      if (!row) continue
      Object.assign(one, { ...row, saved: row.position, buffer: [], hold: new AbortController(), heldUntil: now + leaseMs })
      one.running = run(one).finally(() => {
        one.running = null
        if (one.ended) tick()
      })
    }
  }

  function letGo(one: Subscription): void {
    one.hold?.abort()
    one.hold = null
    one.wake?.()
  }

  /** A running handler finishes, and its place is saved; what waits for a retry does not. */
  function end(one: Subscription): void {
    one.ended = true
    one.hold?.abort()
    one.wake?.()
  }

  /** Handles events for as long as the lease is sure. */
  async function run(one: Subscription): Promise<void> {
    const { signal } = one.hold as AbortController
    while (!one.ended && !signal.aborted) {
      if (performance.now() > one.heldUntil) {
        letGo(one)
        break
      }
      const event = await next(one, signal).catch(async (error) => {
        log.debug('The log cannot be read for a durable subscription now', { ...one.key, error })
        await pause(retryMs, signal)
      })
      if (event && !signal.aborted && performance.now() <= one.heldUntil && (await handle(one, event, signal))) one.position = event.id as bigint
    }
    one.wake = null
  }

  /** The next event; undefined after a wake-up, when there may be one. */
  async function next(one: Subscription, signal: AbortSignal): Promise<Delivery | undefined> {
    const buffered = one.buffer.shift()
    if (buffered) return buffered
    if (one.position < tail.floor) {
      const page = await read(one.position, { types: [one.key.type], principal: null })
      if (signal.aborted) return
      if (page.trimmed > one.position) missed(one, page.trimmed)
      if (page.events.length > 0) one.buffer = [...page.events]
      else one.position = page.reached > one.position ? page.reached : later(tail.floor, one.position)
      return
    }
    const event = tail.next(one.position, one.key.type)
    if (event) return event
    one.position = later(tail.head, one.position)
    await new Promise<void>((resolve) => {
      one.wake = resolve
    })
    one.wake = null
  }

  function missed(one: Subscription, trimmed: bigint): void {
    const gap = `events between ${toCursor(one.position)} and ${toCursor(trimmed)} are no longer in the log`
    log.error('A durable subscription was away for longer than events are kept', { ...one.key, gap })
    one.position = trimmed
    onError(
      one.key.owner,
      `durable subscription "${one.key.name}" to "${one.key.type}"`,
      new Error(`It may have missed events: ${gap}. Raise bus.retention if it must not.`),
    )
  }

  /** True when the event is done with: handled, or set aside. */
  async function handle(one: Subscription, event: Delivery, signal: AbortSignal): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      try {
        await one.listener.call(event.event)
        // A lease that was lost meanwhile is another's to count.
        return one.hold !== null
      } catch (error) {
        if (signal.aborted || one.ended) return false
        if (attempt >= retries && (await setAside(one, event, attempt + 1, error))) return true
        totals.retried++
        log.warn('A durable subscription failed to handle an event and tries again', {
          ...one.key,
          event: toCursor(event.id as bigint),
          attempt: attempt + 1,
          error,
        })
        await clock.sleep(Math.min(longestRetryMs, retryMs * 2 ** attempt), signal).catch(() => {})
        if (signal.aborted || one.ended || performance.now() > one.heldUntil) return false
      }
    }
  }

  async function setAside(one: Subscription, event: Delivery, attempts: number, error: unknown): Promise<boolean> {
    const id = event.id as bigint
    try {
      await writeDeadLetter(store.pool, one.key, {
        event: id,
        uid: event.event.uid,
        data: event.json,
        attempts,
        error: String(error).slice(0, 2_000).replaceAll('\0', ''),
      })
    } catch (fault) {
      log.warn('A dead letter cannot be written now', { ...one.key, error: fault })
      return false
    }
    totals.deadLetters++
    onError(
      one.key.owner,
      `durable subscription "${one.key.name}" to "${one.key.type}"`,
      new Error(`The event ${toCursor(id)} was set aside after ${attempts} attempts: ${error}`, { cause: error }),
    )
    return true
  }

  return {
    get count() {
      return all.size
    },
    get lagMs() {
      let lag = 0
      for (const { hold, wake, position } of all) if (hold && !wake && position < tail.head) lag = Math.max(lag, msOf(tail.head) - msOf(position))
      return lag
    },
    get retried() {
      return totals.retried
    },
    get deadLetters() {
      return totals.deadLetters
    },
    add(key, listener, from) {
      const one: Subscription = {
        ...{ key, listener, holder: randomUUID(), start: from === 'oldest' ? null : tail.head, position: 0n, saved: 0n, epoch: 0n },
        ...{ hold: null, heldUntil: 0, ended: false, buffer: [], wake: null, running: null },
      }
      for (const other of all)
        if (!other.ended && JSON.stringify(other.key) === JSON.stringify(key))
          log.info('A durable subscription waits until another with its name has ended', { ...key })
      all.add(one)
      triedAt = Number.NEGATIVE_INFINITY
      queueMicrotask(tick)
      return () => {
        end(one)
        tick()
      }
    },
    async start() {
      if (store.kind === 'pglite') await freeCursors(store.pool)
      for (const one of all) if (one.start === 0n) one.start = tail.head
      started = true
      timer = setInterval(tick, saveMs)
      tick()
    },
    wake(types) {
      for (const one of all) {
        if (!one.wake) continue
        if (types.has(one.key.type)) one.wake()
        else one.position = tail.head
      }
    },
    async stop(ms) {
      clearInterval(timer)
      for (const one of all) end(one)
      const late = new AbortController()
      const done = Promise.all([...all].map(({ running }) => running))
      await Promise.race([done, pause(ms, late.signal)])
      late.abort()
      await ticking
      await save().catch((error) => log.warn('The cursors of durable subscriptions could not be saved at the end', { error }))
      started = false
    },
  }
}
