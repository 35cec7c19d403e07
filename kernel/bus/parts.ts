/** What the parts of the bus share. */
import type { Clock, Logger } from '../contract/plugin.ts'
import type { Store } from '../store/open.ts'
import type { Catalogue } from './catalogue.ts'
import type { Tail } from './tail.ts'

/** Periods in ms; the defaults are what the documentation promises, others are for tests. */
export interface BusPeriods {
  /** Between pings on event streams: 15,000. */
  readonly ping: number
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
export interface BusParts {
  readonly store: Store
  readonly log: Logger
  readonly clock: Clock
  readonly tail: Tail
  readonly catalogue: Catalogue
  readonly periods: BusPeriods
  /** Never throws, and runs outside of any transaction. */
  report(owner: string, what: string, error: unknown): void
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
