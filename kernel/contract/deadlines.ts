/** Deadlines of many waits with one timer: exact to a tenth of a second, nothing per request but a set's entry. */

const tickMs = 100

/** Something that must end in time. */
export interface Wait {
  /** By `performance.now()`. */
  readonly dueAt: number
  expire(): void
}

/** The waits that are under way. The timer runs only while there are any, and keeps no process alive. */
export class Deadlines {
  readonly #waits = new Set<Wait>()
  #timer: ReturnType<typeof setInterval> | undefined

  /** Starts a wait of `ms`. */
  start(ms: number, expire: () => void): Wait {
    const wait = { dueAt: performance.now() + ms, expire }
    this.#waits.add(wait)
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#tick(), tickMs)
      if (typeof this.#timer === 'object') this.#timer.unref()
    }
    return wait
  }

  /** Ends a wait; false if it had expired. */
  end(wait: Wait): boolean {
    return this.#waits.delete(wait)
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
