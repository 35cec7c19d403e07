/** Durable subscriptions: each event handled in order, one at a time, at least once, on one process, continuing at a stored cursor. */
import { randomUUID } from 'node:crypto'
import { type DurableListener, inTime, type Kernel } from 'portico'
import { type LoggedEvent, toCursor } from './contract.ts'
import { type CursorKey, holdCursors, noteFailure, takeCursors } from './leases.ts'
import { readLog } from './log.ts'
import { type LogParts, later, pause } from './parts.ts'

interface Subscription {
  readonly key: CursorKey
  readonly id: string
  readonly handle: DurableListener['handle']
  readonly deadline: number
  readonly holder: string
  /** Where to begin when there is no row yet; null = the oldest. */
  start: bigint | null
  /** Everything up to here is handled. */
  position: bigint
  saved: bigint
  epoch: bigint
  /** The event that failed last, here or in a predecessor, and how often; null = none. */
  failing: bigint | null
  attempts: number
  /** Set while this process holds it; aborted when it has to pause, because it lost it or ends. */
  hold: AbortController | null
  /** By `performance.now()`; counted from before the database was asked. */
  heldUntil: number
  ended: boolean
  /** Read from the log, not yet handled. */
  buffer: LoggedEvent[]
  /** Set while there is nothing to handle. */
  wake: (() => void) | null
  running: Promise<void> | null
}

const retries = 10
const retryMs = 1_000
const longestRetryMs = 60_000

/** Hears what a subscription could not do, with the plugin that owns it. */
export type Report = Kernel['report']

/** The durable subscriptions of this process. */
export function createSubscriptions({ database, log, clock, tail, periods }: LogParts, report: Report) {
  const { pool, kind } = database
  const all = new Set<Subscription>()
  const counters = { retried: 0, dead: 0 }
  let started = false
  let renewedAt = 0
  let triedAt = Number.NEGATIVE_INFINITY
  let timer: ReturnType<typeof setInterval> | undefined
  let ticking: Promise<void> | undefined
  let tickAgain = false

  /** Saves, prolongs, and takes what is free; once more when it was asked for meanwhile. */
  function tick(): void {
    tickAgain = true
    if (started) ticking ??= database.outsideTransaction(ticks)
  }

  async function ticks(): Promise<void> {
    while (tickAgain) {
      tickAgain = false
      await save()
        .then(take)
        .catch((error) => log.debug('The cursors of durable subscriptions cannot be saved now', { error }))
    }
    ticking = undefined
  }

  async function save(): Promise<void> {
    const now = performance.now()
    const renew = now - renewedAt >= periods.lease / 4
    const done = (one: Subscription) => one.ended && !one.running
    const held = [...all].filter((one) => one.hold && (renew || one.position !== one.saved || done(one))).map((one) => ({ one, ...one, keep: !done(one) }))
    if (held.length === 0) return
    const still = await holdCursors(pool, held, periods.lease)
    if (renew) renewedAt = now
    for (const { one, holder, keep, position } of held) {
      if (keep && still.has(holder)) Object.assign(one, { saved: position, heldUntil: now + periods.lease })
      else letGo(one)
      // A successor in this process need not wait.
      if (!keep) triedAt = Number.NEGATIVE_INFINITY
    }
  }

  async function take(): Promise<void> {
    const now = performance.now()
    const free = new Map<string, Subscription>()
    for (const one of all) {
      if (one.hold || one.running) continue
      if (one.ended) all.delete(one)
      else if (!free.has(one.id)) free.set(one.id, one)
    }
    if (free.size === 0 || now - triedAt < periods.lease / 4) return
    triedAt = now
    const taken = await takeCursors(pool, [...free.values()], periods.lease)
    for (const one of free.values()) {
      const row = taken.get(one.holder)
      if (!row) continue
      Object.assign(one, { ...row, saved: row.position, buffer: [], hold: new AbortController(), heldUntil: now + periods.lease })
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
    while (!signal.aborted) {
      try {
        const event = await next(one, signal)
        if (performance.now() > one.heldUntil) letGo(one)
        else if (event && !signal.aborted && (await handle(one, event, signal))) one.position = event.id
      } catch (error) {
        log.debug('The log cannot be read for a durable subscription now', { ...one.key, error })
        await pause(retryMs, signal)
      }
    }
    one.wake = null
  }

  /** The next event; undefined when there may be one now. */
  async function next(one: Subscription, signal: AbortSignal): Promise<LoggedEvent | undefined> {
    const { type } = one.key
    if (one.buffer.length > 0) return one.buffer.shift()
    if (one.position < tail.floor) {
      const page = await readLog(pool, one.position, { types: [type], principal: null, end: tail.floor })
      if (signal.aborted) return
      if (page.trimmed > one.position) missed(one, page.trimmed)
      one.buffer = [...page.events]
      if (one.buffer.length === 0) one.position = later(page.reached, one.position)
      return
    }
    const event = tail.next(one.position, type)
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
    report(one.key.owner, nameOf(one), new Error(`It may have missed events: ${gap}. Raise event-log.retention if it must not.`))
  }

  /** True when the event is done with: handled, or set aside. */
  async function handle(one: Subscription, event: LoggedEvent, signal: AbortSignal): Promise<boolean> {
    // Counted on from where a predecessor stopped: no chain of restarts makes a poisonous event immortal.
    for (let attempt = one.failing === event.id ? one.attempts + 1 : 1; ; attempt++) {
      try {
        const late = () => {
          const error = new Error(`the event ${toCursor(event.id)} was not handled within ${one.deadline} ms; it is tried again`)
          report(one.key.owner, nameOf(one), error)
          return error
        }
        await inTime(Promise.resolve(one.handle(event.event)), one.deadline, late)
        return true
      } catch (error) {
        if (signal.aborted) return false
        if (attempt > retries && (await setAside(one, event, attempt, error))) return true
        Object.assign(one, { failing: event.id, attempts: attempt })
        await noteFailure(pool, one, event.id, attempt).catch((fault) => log.debug('A failed attempt cannot be noted now', { ...one.key, error: fault }))
        counters.retried++
        log.warn('A durable subscription failed to handle an event and tries again', { ...one.key, event: toCursor(event.id), attempt, error })
        await clock.sleep(Math.min(longestRetryMs, retryMs * 2 ** (attempt - 1)), signal).catch(() => {})
        if (signal.aborted || performance.now() > one.heldUntil) return false
      }
    }
  }

  async function setAside(one: Subscription, event: LoggedEvent, attempts: number, error: unknown): Promise<boolean> {
    const { owner, name, type } = one.key
    const letter = [owner, name, type, String(event.id), event.event.uid, event.json, attempts, String(error).slice(0, 2_000).replaceAll('\0', '')]
    const columns = 'owner, name, type, event, uid, data, attempts, error'
    try {
      await pool.query(`insert into event_log_dead_letters (${columns}) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing`, letter)
    } catch (fault) {
      log.warn('A dead letter cannot be written now', { ...one.key, error: fault })
      return false
    }
    counters.dead++
    report(owner, nameOf(one), new Error(`The event ${toCursor(event.id)} was set aside after ${attempts} attempts: ${error}`, { cause: error }))
    return true
  }

  return {
    counters,
    count: () => all.size,
    /** ms between the newest event and the place of the slowest subscription that has something to do. */
    lagMs: () => Math.max(0, ...[...all].filter(({ hold, wake }) => hold && !wake).map(({ position }) => msOf(tail.head) - msOf(position))),

    /** Subscribes; returns the undo, after which no event begins any more. */
    add({ owner, cursor: name, type, from, deadline, handle }: DurableListener): () => void {
      const key: CursorKey = { owner, name, type }
      const one: Subscription = {
        ...{ key, id: JSON.stringify(key), handle, deadline, holder: randomUUID(), start: from === 'oldest' ? null : tail.head },
        ...{ position: 0n, saved: 0n, epoch: 0n, failing: null, attempts: 0, hold: null, heldUntil: 0, ended: false, buffer: [], wake: null, running: null },
      }
      if ([...all].some(({ id, ended }) => id === one.id && !ended)) log.info('A durable subscription waits until another of its name has ended', { ...key })
      all.add(one)
      triedAt = Number.NEGATIVE_INFINITY
      queueMicrotask(tick)
      return () => {
        end(one)
        tick()
      }
    },

    /** Begins to take subscriptions and to handle events. */
    async start(): Promise<void> {
      // Only one process can have this store: whoever held a cursor is dead.
      if (kind === 'pglite') await pool.query('update event_log_cursors set holder = null where holder is not null')
      for (const one of all) if (one.start === 0n) one.start = tail.head
      started = true
      timer = setInterval(tick, periods.save)
      tick()
    },

    /** Tells that the tail has grown by events of these types. */
    wake(types: ReadonlySet<string>): void {
      for (const one of all) {
        if (!one.wake) continue
        if (types.has(one.key.type)) one.wake()
        else one.position = tail.head
      }
    },

    /** Lets running handlers finish, at most `ms`, saves, and lets go. */
    async stop(ms: number): Promise<void> {
      clearInterval(timer)
      for (const one of all) end(one)
      const late = new AbortController()
      await Promise.race([Promise.all([...all].map(({ running }) => running)), pause(ms, late.signal)])
      late.abort()
      await ticking
      started = false
      await save().catch((error) => log.warn('The cursors of durable subscriptions could not be saved at the end', { error }))
    },
  }
}

/** Milliseconds since the epoch of an id. */
function msOf(id: bigint): number {
  return Number(id / 1_000_000n)
}

function nameOf({ key: { name, type } }: Subscription): string {
  return `durable subscription "${name}" to "${type}"`
}
