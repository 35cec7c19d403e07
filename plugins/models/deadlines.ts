/** Deadlines of many calls with one timer: a tenth of a second late at most, and nothing for each call but an entry in a set. */

const tickMs = 100

/** A call that must answer in time. */
export interface Wait {
  /** By `performance.now()`. */
  readonly dueAt: number
  expire(): void
}

/** The calls that are waited for. The timer runs only while there are any. */
export class Deadlines {
  readonly #waits = new Set<Wait>()
  #timer: ReturnType<typeof setInterval> | undefined

  /** Calls `expire` after `ms`, unless the wait is ended before. */
  start(ms: number, expire: () => void): Wait {
    const wait = { dueAt: performance.now() + ms, expire }
    this.#waits.add(wait)
    this.#timer ??= setInterval(() => this.#tick(), tickMs)
    return wait
  }

  end(wait: Wait): void {
    this.#waits.delete(wait)
  }

  #tick(): void {
    const now = performance.now()
    for (const wait of this.#waits) {
      if (wait.dueAt > now) continue
      this.#waits.delete(wait)
      wait.expire()
    }
    if (this.#waits.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
