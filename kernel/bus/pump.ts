/** Moves durable events: from their publishers to the outbox, from there to the log, and from the log, whoever appended, to `deliver` in one order. */
import { GatewayError } from '../contract/errors.ts'
import type { Logger, Transaction } from '../contract/plugin.ts'
import { isConnectionError, type Store } from '../store/open.ts'
import { afterCommit } from '../store/transactions.ts'
import type { Delivery } from './delivery.ts'
import { appendOutbox, insertOutbox, insertOutboxIn, type LogPage, type OutboxRow, readHead, readLog, readNewest } from './log.ts'
import type { Tail } from './tail.ts'

/** What the pump works with. */
export interface PumpOptions {
  readonly store: Store
  readonly log: Logger
  readonly tail: Tail
  /** ms between looks at the database that need no notification. */
  readonly pollMs: number
  /** Called with the events of the log, each once, in its order, some at a time. */
  deliver(events: readonly Delivery[]): void
}

/** A pump. */
export interface Pump {
  /** Settles when the row is in the outbox; rows of the same moment share one insert. */
  write(row: OutboxRow): Promise<void>
  /** Writes the row with the transaction. */
  writeIn(tx: Transaction, row: OutboxRow): Promise<void>
  /** Listens, loads the tail, and appends what a crash left. */
  start(): Promise<void>
  /** Resolves when everything written is in the log and delivered, or after `ms`. */
  stop(ms: number): Promise<void>
  /** Rows not yet in the outbox. */
  readonly pending: number
  /** ms since the appender was woken for rows that it has not moved yet. */
  readonly lagMs: number
}

interface Pending {
  readonly row: OutboxRow
  resolve(): void
  reject(error: unknown): void
}

const maxPending = 10_000
const insertRows = 500
const insertSize = 1024 * 1024
/** After so much data readers get a turn of the event loop to take it. */
const turnSize = 64 * 1024
const preloadRows = 1_000
/** The start waits no longer for what a crash left. */
const startMs = 10_000
const channel = 'portico_events'

/** Creates it; nothing is appended before `start`. */
export function createPump({ store, log, tail, pollMs, deliver }: PumpOptions): Pump {
  const { pool } = store
  const ended = new AbortController()
  let pending: Pending[] = []
  let inserting = false
  let started = false
  let busy = false
  let look = { outbox: false, log: false }
  /** The highest id another process has told of. */
  let heard = 0n
  let wokenAt: number | undefined
  let idle: (() => void)[] = []
  let stopListening: (() => Promise<void>) | undefined
  let poll: ReturnType<typeof setInterval> | undefined

  function flush(): void {
    if (inserting || pending.length === 0) return
    inserting = true
    let [count, size] = [0, 0]
    while (count < pending.length && count < insertRows && size < insertSize) size += pending[count++]?.row.data.length ?? 0
    const batch = pending.slice(0, count)
    pending = pending.slice(count)
    insertOutbox(
      pool,
      batch.map(({ row }) => row),
    )
      .then(
        () => {
          for (const { resolve } of batch) resolve()
          wake('outbox')
        },
        (error) => {
          for (const { reject } of batch) reject(isConnectionError(error) ? unavailable(error) : error)
        },
      )
      .finally(() => {
        inserting = false
        flush()
        settle()
      })
  }

  function wake(what: 'outbox' | 'log'): void {
    look[what] = true
    if (what === 'outbox') wokenAt ??= performance.now()
    if (busy || !started || ended.signal.aborted) return
    busy = true
    void run()
  }

  async function run(): Promise<void> {
    let failures = 0
    while ((look.outbox || look.log || heard > tail.head) && !ended.signal.aborted) {
      try {
        if (look.outbox) await append()
        if (look.log || heard > tail.head) await catchUp()
        if (failures > 0) log.info('The event log goes on')
        failures = 0
      } catch (error) {
        // What was appended without an answer is found by reading the log.
        look = { outbox: true, log: true }
        if (failures++ === 0) log.warn('Events cannot be appended or read now; trying again until they can', { error })
        await pause(Math.min(5_000, 100 * 2 ** Math.min(failures, 6)), ended.signal)
      }
    }
    busy = false
    settle()
  }

  async function append(): Promise<void> {
    look.outbox = false
    const { last, events, more } = await appendOutbox(pool)
    if (more) look.outbox = true
    wokenAt = look.outbox ? performance.now() : undefined
    if (events.length === 0) return
    if (last > tail.head) look.log = true
    else await ingest(events)
    // Lets rows gather under load: fewer and larger batches.
    if (events.length > 1) await pause(5, ended.signal)
  }

  async function catchUp(): Promise<void> {
    look.log = false
    for (;;) {
      const { events, reached } = await readLog(pool, tail.head)
      if (events.length === 0 && reached === tail.head) break
      await ingest(events)
    }
    heard = tail.head
  }

  async function ingest(events: LogPage['events']): Promise<void> {
    let turn: Delivery[] = []
    let size = 0
    for (const event of events) {
      if (event.id <= tail.head) continue
      tail.push(event)
      turn.push(event)
      size += event.size
      if (size < turnSize) continue
      deliver(turn)
      await new Promise((resolve) => setImmediate(resolve))
      ;[turn, size] = [[], 0]
    }
    if (turn.length > 0) deliver(turn)
  }

  function settle(): void {
    if (busy || inserting || pending.length > 0) return
    for (const resolve of idle) resolve()
    idle = []
  }

  async function lookAtDatabase(): Promise<void> {
    if (busy) return
    const { head, waiting } = await readHead(pool)
    if (waiting) wake('outbox')
    if (head > tail.head) wake('log')
  }

  return {
    get pending() {
      return pending.length
    },
    get lagMs() {
      return wokenAt === undefined ? 0 : performance.now() - wokenAt
    },
    write(row) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      if (ended.signal.aborted) reject(new GatewayError('unavailable', 'The gateway stops: no event can be published any more.'))
      else if (pending.length >= maxPending) reject(unavailable(`${maxPending} events wait for it`))
      else if (pending.push({ row, resolve, reject }) === 1) queueMicrotask(flush)
      return promise
    },
    async writeIn(tx, row) {
      await insertOutboxIn(tx, row)
      afterCommit(tx, () => wake('outbox'))
    },
    async start() {
      stopListening = await store.listen(channel, (payload) => {
        // Without a payload notifications may have been missed.
        if (payload === '') {
          wake('outbox')
          return wake('log')
        }
        if (BigInt(payload) > heard) heard = BigInt(payload)
        // What this process appended itself is told of as well, sometimes before its answer is here.
        if (heard > tail.head && !busy) wake('log')
      })
      const newest = (await readNewest(pool, preloadRows)).toReversed()
      tail.reset(newest[0] ? newest[0].id - 1n : (await readHead(pool)).head)
      for (const event of newest) tail.push(event)
      started = true
      const drained = new Promise<void>((resolve) => idle.push(resolve))
      wake('outbox')
      await Promise.race([drained, pause(startMs, ended.signal)])
      poll = setInterval(() => lookAtDatabase().catch((error) => log.debug('The outbox cannot be looked at', { error })), pollMs)
    },
    async stop(ms) {
      clearInterval(poll)
      const empty = new Promise<void>((resolve) => idle.push(resolve))
      flush()
      wake('outbox')
      settle()
      await Promise.race([empty, pause(ms, ended.signal)])
      if (pending.length > 0) log.error('Events were lost: the database did not take them before the end', { events: pending.length })
      ended.abort()
      for (const { reject } of pending) reject(unavailable('the gateway stopped first'))
      pending = []
      await stopListening?.()
    },
  }
}

function unavailable(cause: unknown): GatewayError {
  return new GatewayError('database_unavailable', 'The event could not be written: the database does not answer. Try again.', { cause, retryAfter: 2 })
}

/** Resolves after `ms`, or when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
    if (signal.aborted) done()
  })
}
