/** Keeps the deadlines of gates: awake when the next one closes by itself, also after a restart, and once a minute, since other processes ask too. */
import type { Clock, Logger } from 'portico'
import type { Sweep } from './approvals.ts'

/** What it works with. */
export interface DeadlinesOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  isAway(error: unknown): boolean
  /** Closes what is due. */
  expire(): Promise<Sweep>
}

/** ms */
const [longestSleep, retryAfter] = [60_000, 5_000]
/** ms: so long after its deadline a gate that was asked for here is looked for, and so often: its transaction may be open longer than its deadline is away. */
const [grace, soon] = [2_000, 200]

/** Makes it; nothing happens before `keep`. */
export function createDeadlines({ clock, log, signal, isAway, expire }: DeadlinesOptions) {
  // What was asked for here may not be committed when the sweep reads: it is kept in mind until its time.
  let asked = Number.POSITIVE_INFINITY
  let wakesAt = Number.NEGATIVE_INFINITY
  let sleep = new AbortController()

  /** Sweeps; gives when to sweep again, ms since the epoch. */
  async function sweep(): Promise<number> {
    const begun = clock.now()
    try {
      const { next, isUnfinished } = await expire()
      if (asked + grace <= begun) asked = Number.POSITIVE_INFINITY
      const again = clock.now() + (isUnfinished ? retryAfter : longestSleep)
      return Math.min(asked <= begun ? clock.now() + soon : asked, next ?? Number.POSITIVE_INFINITY, again)
    } catch (error) {
      if (!isAway(error) && !signal.aborted) log.error('Deadlines of approvals could not be kept; they are tried again', { error })
      return clock.now() + retryAfter
    }
  }

  return {
    /** A gate was asked for that closes by itself then. */
    expect(at: number): void {
      asked = Math.min(asked, at)
      if (at < wakesAt) sleep.abort()
    },

    /** Until the signal aborts. */
    async keep(): Promise<void> {
      while (!signal.aborted) {
        const due = await sweep()
        // Asked for meanwhile.
        wakesAt = asked > clock.now() ? Math.min(due, asked) : due
        sleep = new AbortController()
        await clock.sleep(Math.max(0, wakesAt - clock.now()), AbortSignal.any([signal, sleep.signal])).catch(() => undefined)
      }
    },
  }
}
