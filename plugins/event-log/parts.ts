/** What the parts of the log share. */
import type { Clock, Logger } from 'portico'
import type { DatabaseAccess } from 'portico/plugins/database'
import type { Tail } from './tail.ts'

/** Periods in ms; the defaults are what the documentation promises, others are for tests. */
export interface LogPeriods {
  /** Between looks at the database that need no notification: 2,000. */
  readonly poll: number
  /** How long a durable subscription stays with a process that died: 4,000 on PostgreSQL. On PGlite there is only one process: 60,000. */
  readonly lease: number
  /** Between saves of cursors: 200. */
  readonly save: number
  /** Between trims of the log: 60,000. */
  readonly trim: number
}

/** The parts. */
export interface LogParts {
  readonly database: DatabaseAccess
  readonly log: Logger
  readonly clock: Clock
  readonly tail: Tail
  readonly periods: LogPeriods
}

/** The later of two ids. */
export function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

/** Resolves after `ms`, or when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
  })
}
