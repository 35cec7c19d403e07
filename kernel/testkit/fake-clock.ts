/** A clock that moves only when told to. */
import type { Clock } from '../contract/plugin.ts'

/** A clock for tests: `advance` moves it and wakes the sleepers whose time has come, in order. */
export interface FakeClock extends Clock {
  advance(ms: number): Promise<void>
  /** How many are asleep. */
  readonly sleepers: number
}

/** Starts at `start`, ms since the epoch. */
export function createFakeClock(start = Date.UTC(2026, 0, 1)): FakeClock {
  let now = start
  const sleepers = new Set<{ at: number; wake(): void }>()
  return {
    now: () => now,
    get sleepers() {
      return sleepers.size
    },
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const onAbort = () => {
          sleepers.delete(sleeper)
          reject(signal?.reason)
        }
        const sleeper = {
          at: now + ms,
          wake() {
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', onAbort)
            resolve()
          },
        }
        signal?.addEventListener('abort', onAbort, { once: true })
        sleepers.add(sleeper)
      })
    },
    async advance(ms) {
      const end = now + ms
      for (;;) {
        const next = [...sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
        if (!next) break
        now = Math.max(now, next.at)
        next.wake()
        // Lets what the sleeper does next, including going to sleep again, happen before the clock moves on.
        await new Promise((resolve) => setTimeout(resolve, 0))
      }
      now = end
    },
  }
}
