/** Counts over a sliding window, in memory that does not grow: docs/decisions/0007-own-sliding-window.md. */
import { Counts, digestOf } from './counts.ts'

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
  /** Keys of one window, a multiple of eight; beyond it those seen least are forgotten. Default 65,536, which take 0.8 MB. */
  maxKeys?: number
}

/** Two fixed windows, the previous one weighted by how much of it the sliding window still covers. */
export class Limiter {
  readonly #options: LimiterOptions
  readonly #maxKeys: number
  #window = 0
  #current: Counts
  #previous: Counts

  constructor(options: LimiterOptions) {
    this.#options = options
    this.#maxKeys = options.maxKeys ?? 65_536
    this.#current = new Counts(this.#maxKeys)
    this.#previous = new Counts(this.#maxKeys)
  }

  /** Keys in memory. */
  get size(): number {
    return this.#current.size + this.#previous.size
  }

  /** Counts one call; a refused one is not counted. */
  hit(key: string): LimitState {
    const digest = digestOf(key)
    const state = this.#look(digest)
    if (!state.allowed) return state
    this.#current.add(digest)
    return { ...state, remaining: state.remaining - 1 }
  }

  /** The state without counting. */
  peek(key: string): LimitState {
    return this.#look(digestOf(key))
  }

  #look(digest: number): LimitState {
    const { windowMs, maxRequests: limit } = this.#options
    const now = this.#options.now()
    const window = Math.floor(now / windowMs)
    if (window !== this.#window) {
      this.#previous = window === this.#window + 1 ? this.#current : new Counts(this.#maxKeys)
      this.#current = new Counts(this.#maxKeys)
      this.#window = window
    }
    // Of the remainder: the whole quotient has too few digits behind the point, and a client that waited as told would be a hair early.
    const elapsed = (now % windowMs) / windowMs
    const [before, count] = [this.#previous.get(digest), this.#current.get(digest)]
    const remaining = Math.floor(limit - count - before * (1 - elapsed) + 1e-9)
    const allowed = remaining >= 1
    // When refused: the share of the windows that must pass until one more call fits.
    const wait = allowed ? 1 - elapsed : count <= limit - 1 ? 1 - (limit - 1 - count) / before - elapsed : 2 - elapsed - (limit - 1) / count
    return { allowed, limit, remaining: Math.max(0, remaining), resetSeconds: Math.max(1, Math.ceil((wait * windowMs - 1e-6) / 1000)) }
  }
}
