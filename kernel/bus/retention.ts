/** Keeps the log within its age and size. */
import type { Logger } from '../contract/plugin.ts'
import type { Store } from '../store/open.ts'
import { trimDeadLetters, trimLog } from './log.ts'

/** How long and how many. */
export interface Retention {
  readonly maxAgeDays: number
  readonly maxRows: number
}

/** What retention works with. */
export interface RetentionOptions {
  readonly store: Store
  readonly log: Logger
  readonly retention: Retention
  readonly everyMs: number
  /** Events this process has seen appended, by whomever. */
  seen(): number
}

/** Trims at once when asked, and by itself. */
export interface Trimmer {
  trim(): Promise<void>
  start(): void
  stop(): Promise<void>
}

const dayMs = 86_400_000

/** Creates it; nothing runs before `start`. */
export function createTrimmer({ store, log, retention, everyMs, seen }: RetentionOptions): Trimmer {
  const ended = new AbortController()
  /** Of the log, at most; unknown at first. Counting a million rows takes a tenth of a second: only when there may be too many. */
  let rows = Number.POSITIVE_INFINITY
  let seenBefore = 0
  let vacuumedAt = 0
  let timer: ReturnType<typeof setInterval> | undefined
  let running: Promise<void> | null = null

  async function run(): Promise<void> {
    const now = seen()
    rows += now - seenBefore
    seenBefore = now
    const count = rows > retention.maxRows
    const removed = await trimLog(store.pool, { maxAgeMs: retention.maxAgeDays * dayMs, maxRows: retention.maxRows, count, signal: ended.signal })
    if (count) rows = Math.min(rows, retention.maxRows)
    if (removed > 0) log.debug('Old events were removed from the log', { events: removed })
    await trimDeadLetters(store.pool)
    // PGlite has nobody who vacuums: the outbox would only grow.
    if (store.kind === 'pglite' && (removed > 0 || now - vacuumedAt > 1_000)) {
      vacuumedAt = now
      await store.pool.query(`vacuum portico_outbox, portico_cursors${removed > 0 ? ', portico_events' : ''}`)
    }
  }

  async function trim(): Promise<void> {
    running ??= run()
      .catch((error) => log.warn('Old events could not be removed from the log', { error }))
      .finally(() => {
        running = null
      })
    await running
  }

  return {
    trim,
    start() {
      timer = setInterval(() => void trim(), everyMs)
    },
    async stop() {
      clearInterval(timer)
      ended.abort()
      await running
    },
  }
}
