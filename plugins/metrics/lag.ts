/** How late timers are: a timer of our own, since the Prometheus library's measure is blind on Deno. */

const every = 500

/** What was measured, in seconds. */
export interface Lag {
  /** Of the latest timer. */
  latest(): number
  /** Of the latest of all since this was asked last. */
  takeHighest(): number
  stop(): void
}

/** Starts measuring. */
export function measureLag(): Lag {
  let due = performance.now() + every
  let latest = 0
  let highest = 0
  const timer = setInterval(() => {
    const now = performance.now()
    latest = Math.max(0, now - due) / 1000
    highest = Math.max(highest, latest)
    due = now + every
  }, every)
  timer.unref()
  return {
    latest: () => latest,
    takeHighest() {
      const taken = highest
      highest = 0
      return taken
    },
    stop: () => clearInterval(timer),
  }
}
