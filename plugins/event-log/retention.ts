/** Keeps the log within its age and size. */
import { type LogParts, pause } from './parts.ts'

/** How long and how many. */
export interface Retention {
  readonly maxAgeDays: number
  readonly maxRows: number
}

const dayMs = 86_400_000
const maxDeadLetters = 10_000

/** Trims from `start` to `stop`. `seen` counts the events this process has seen appended, by whomever. */
export function createTrimmer({ database: { pool, kind }, log, periods }: LogParts, { maxAgeDays, maxRows }: Retention, seen: () => number) {
  const ended = new AbortController()
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    // At most. Counting a million rows takes a tenth of a second: only when there may be too many.
    let rows = Number.POSITIVE_INFINITY
    let [counted, vacuumed] = [0, 0]
    for (await pause(periods.trim, ended.signal); !ended.signal.aborted; await pause(periods.trim, ended.signal)) {
      const now = seen()
      rows += now - counted
      counted = now
      try {
        const removed = await trim(rows > maxRows)
        rows = Math.min(rows, maxRows)
        // PGlite has nobody who vacuums: the outbox would only grow.
        if (kind === 'postgres' || (removed === 0 && now - vacuumed < 1_000)) continue
        vacuumed = now
        await pool.query(`vacuum event_log_outbox, event_log_cursors${removed > 0 ? ', event_log_events' : ''}`)
      } catch (error) {
        log.warn('Old events could not be removed from the log', { error })
        rows = Number.POSITIVE_INFINITY
      }
    }
  }

  async function trim(counting: boolean): Promise<number> {
    const { rows } = await pool.query('select event_log_bound($1, $2, $3) as bound', [maxAgeDays * dayMs, maxRows, counting])
    let removed = 0
    for (let last = -1; last !== 0 && !ended.signal.aborted; removed += last)
      last = (await pool.query('select event_log_trim($1) as removed', [rows[0].bound])).rows[0].removed
    await pool.query(`delete from event_log_dead_letters where at < (select at from event_log_dead_letters order by at desc offset ${maxDeadLetters} limit 1)`)
    return removed
  }

  return {
    start(): void {
      running = run()
    },
    async stop(): Promise<void> {
      ended.abort()
      await running
    },
  }
}
