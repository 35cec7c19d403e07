/** Moves durable events: from their publishers to the outbox, from there to the log, and from the log, whoever appended, to `deliver` in one order. */
import { GatewayError, type Transaction } from 'portico'
import type { LogFilter, LoggedEvent } from './contract.ts'
import { startListening } from './listen.ts'
import { appendOutbox, insertOutbox, insertOutboxIn, readHead, readLog, readTail } from './log.ts'
import { type LogParts, pause } from './parts.ts'
import type { EventRecord } from './record.ts'

/** Rows of one insert: their publishers wait together. */
interface Batch extends PromiseWithResolvers<void> {
  readonly rows: EventRecord[]
  size: number
}

const everything: LogFilter = { types: null, principal: null }
const maxBatches = 20
const batchRows = 500
const batchSize = 1024 * 1024
/** After so much data readers get a turn of the event loop to take it. */
const turnSize = 64 * 1024
const preloadRows = 1_000
/** The start waits no longer for what a crash left. */
const startMs = 10_000

/** Creates it; nothing is appended before `start`. `deliver` gets the events of the log, each once, in its order, some at a time. */
export function createPump({ database, log, tail, periods }: LogParts, deliver: (events: readonly LoggedEvent[]) => void) {
  const { pool } = database
  const ended = new AbortController()
  const batches: Batch[] = []
  const look = { outbox: false, log: false }
  let inserting: Promise<void> | undefined
  let moving: Promise<void> | undefined
  let preloading: Promise<void> | undefined
  let started = false
  /** The highest id that any process has told of. */
  let heard = 0n
  let wokenAt: number | undefined
  let stopListening: (() => Promise<void>) | undefined
  let poll: ReturnType<typeof setInterval> | undefined

  async function insert(): Promise<void> {
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      const { rows, resolve, reject } = batch
      await insertOutbox(pool, rows).then(resolve, (error) => reject(database.isConnectionError(error) ? unavailable(error) : error))
      wake('outbox')
    }
    inserting = undefined
  }

  function wake(what: 'outbox' | 'log'): void {
    look[what] = true
    if (what === 'outbox') wokenAt ??= performance.now()
    if (started && !ended.signal.aborted) moving ??= Promise.resolve().then(move)
  }

  async function move(): Promise<void> {
    for (let failures = 0; (look.outbox || look.log || heard > tail.head) && !ended.signal.aborted; ) {
      try {
        if (look.outbox) await append()
        if (look.log || heard > tail.head) await catchUp()
        if (failures > 0) log.info('The event log goes on')
        failures = 0
      } catch (error) {
        // What was appended without an answer is found by reading the log.
        look.outbox = look.log = true
        if (failures++ === 0) log.warn('Events cannot be appended or read now; trying again until they can', { error })
        await pause(Math.min(5_000, 100 * 2 ** Math.min(failures, 6)), ended.signal)
      }
    }
    moving = undefined
  }

  async function append(): Promise<void> {
    look.outbox = false
    const { last, events, more } = await appendOutbox(pool)
    if (more) look.outbox = true
    wokenAt = look.outbox ? performance.now() : undefined
    if (last > tail.head) look.log = true
    else await ingest(events)
    // Lets rows gather under load: fewer and larger batches.
    if (events.length > 1) await pause(5, ended.signal)
  }

  async function catchUp(): Promise<void> {
    look.log = false
    for (;;) {
      const told = heard
      const { events } = await readLog(pool, tail.head, { ...everything, end: tail.head })
      if (events.length > 0) await ingest(events)
      else if (told === heard) break
    }
    heard = tail.head
  }

  async function ingest(events: readonly LoggedEvent[]): Promise<void> {
    let turn: LoggedEvent[] = []
    let size = 0
    for (const event of events) {
      tail.push(event)
      turn.push(event)
      size += event.json.length
      if (size < turnSize) continue
      deliver(turn)
      await new Promise((resolve) => setImmediate(resolve))
      ;[turn, size] = [[], 0]
    }
    if (turn.length > 0) deliver(turn)
  }

  /** Loads what was in the log before the start, for those who read behind the tail. */
  async function preload(): Promise<void> {
    const { floor } = tail
    tail.extend(floor, await readTail(pool, floor, preloadRows, batchSize))
  }

  async function lookAtDatabase(): Promise<void> {
    if (moving !== undefined) return
    const { head, waiting } = await readHead(pool)
    if (waiting) wake('outbox')
    if (head > tail.head) wake('log')
  }

  /** Until nothing is on its way, or `ms` are over. */
  async function quiet(ms: number): Promise<void> {
    const late = new AbortController()
    const all = async () => {
      while (inserting || moving) await (inserting ?? moving)
    }
    await Promise.race([all(), pause(ms, late.signal)])
    late.abort()
  }

  return {
    /** Rows not yet in the outbox, but for the insert under way. */
    pending: () => batches.reduce((sum, { rows }) => sum + rows.length, 0),
    /** ms since the appender was woken for rows that it has not moved yet. */
    lagMs: () => (wokenAt === undefined ? 0 : performance.now() - wokenAt),

    /** Settles when the row is in the outbox; rows of the same moment share one insert. */
    async write(row: EventRecord): Promise<void> {
      if (ended.signal.aborted) throw new GatewayError('unavailable', 'The gateway stops: no event can be published any more.')
      let batch = batches.at(-1)
      if (!batch || batch.rows.length >= batchRows || batch.size >= batchSize) {
        if (batches.length >= maxBatches) throw unavailable(`${maxBatches * batchRows} events wait for it`)
        batch = { rows: [], size: 0, ...Promise.withResolvers<void>() }
        batches.push(batch)
        inserting ??= Promise.resolve().then(insert)
      }
      batch.rows.push(row)
      batch.size += row.data.length
      await batch.promise
    },

    /** Writes the row with the transaction. */
    async writeIn(tx: Transaction, row: EventRecord): Promise<void> {
      await insertOutboxIn(tx, row)
      database.afterCommit(tx, () => wake('outbox'))
    },

    /** There are rows in the outbox that others have written and committed. */
    wake: () => wake('outbox'),

    /** Settles when the end of what was there before the start is in the tail. The first who reads there asks: after a start all readers come back at once. */
    preloaded: () =>
      (preloading ??= preload().catch(() => {
        // The next reader tries again; this one reads the log.
        preloading = undefined
      })),

    /** Listens, and appends what a crash left. */
    async start(): Promise<void> {
      const hear = (payload: string) => {
        // Without a payload notifications may have been missed.
        if (payload === '') wake('outbox')
        if (payload !== '' && BigInt(payload) > heard) heard = BigInt(payload)
        // What this process appended itself is told of as well, sometimes before its answer is here.
        if (payload === '' || (heard > tail.head && moving === undefined)) wake('log')
      }
      const listening = startListening(database, 'event_log', hear, log)
      stopListening = () => listening.then((stop) => stop())
      const [{ head, waiting }] = await Promise.all([readHead(pool), listening])
      tail.reset(head)
      started = true
      // What another process appended while these were under way was told to nobody.
      if (database.kind === 'postgres') wake('log')
      // The first append takes an embedded database longest of all: without need no start waits for it.
      if (waiting || look.outbox) wake('outbox')
      await quiet(startMs)
      poll = setInterval(() => lookAtDatabase().catch((error) => log.debug('The outbox cannot be looked at', { error })), periods.poll)
    },

    /** Resolves when everything written is in the log and delivered, or after `ms`. */
    async stop(ms: number): Promise<void> {
      clearInterval(poll)
      wake('outbox')
      await quiet(ms)
      ended.abort()
      for (const { rows, reject } of batches.splice(0)) {
        log.error('Events were lost: the database did not take them before the end', { events: rows.length })
        reject(unavailable('the gateway stopped first'))
      }
      await stopListening?.().catch(() => undefined)
    },
  }
}

function unavailable(cause: unknown): GatewayError {
  const why = (cause as { code?: unknown }).code === '53100' ? 'the disk of the database is full' : 'the database does not answer'
  return new GatewayError('database_unavailable', `The event could not be written: ${why}. Try again.`, { cause, retryAfter: 2 })
}
