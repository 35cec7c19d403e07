/** Counts over a sliding window, in memory that does not grow: docs/decisions/0007-own-sliding-window.md. */

/** What a limit says of one call. Seconds are whole and at least 1. */
export interface LimitState {
  readonly allowed: boolean
  readonly limit: number
  readonly remaining: number
  /** Until the window that is counted now has passed; when refused, until the next call is allowed. */
  readonly resetSeconds: number
}

/** How a limiter counts. */
export interface LimiterOptions {
  windowMs: number
  maxRequests: number
  now(): number
  /** Keys of one window; beyond it the longest unseen is forgotten. */
  maxKeys?: number
}

/** Two fixed windows, the previous one weighted by how much of it the sliding window still covers. */
export class Limiter {
  readonly #options: LimiterOptions
  readonly #maxKeys: number
  #window = 0
  #current = new Map<string, number>()
  #previous = new Map<string, number>()

  constructor(options: LimiterOptions) {
    this.#options = options
    this.#maxKeys = options.maxKeys ?? 50_000
  }

  /** Keys in memory. */
  get size(): number {
    return this.#current.size + this.#previous.size
  }

  /** Counts one call; a refused one is not counted. */
  hit(key: string): LimitState {
    const state = this.peek(key)
    if (!state.allowed) return state
    const count = this.#current.get(key)
    if (count === undefined && this.#current.size >= this.#maxKeys) {
      const oldest = this.#current.keys().next()
      if (!oldest.done) this.#current.delete(oldest.value)
    }
    this.#current.set(key, (count ?? 0) + 1)
    return { ...state, remaining: state.remaining - 1 }
  }

  /** The state without counting. */
  peek(key: string): LimitState {
    const { windowMs, maxRequests: limit } = this.#options
    const now = this.#options.now()
    const window = Math.floor(now / windowMs)
    if (window !== this.#window) {
      this.#previous = window === this.#window + 1 ? this.#current : new Map()
      this.#current = new Map()
      this.#window = window
    }
    const elapsed = now / windowMs - window
    const [before, count] = [this.#previous.get(key) ?? 0, this.#current.get(key) ?? 0]
    const remaining = Math.floor(limit - count - before * (1 - elapsed) + 1e-9)
    const allowed = remaining >= 1
    // When refused: the share of the windows that must pass until one more call fits.
    const wait = allowed ? 1 - elapsed : count <= limit - 1 ? 1 - (limit - 1 - count) / before - elapsed : 2 - elapsed - (limit - 1) / count
    return { allowed, limit, remaining: Math.max(0, remaining), resetSeconds: Math.max(1, Math.ceil((wait * windowMs) / 1000)) }
  }
}
