/** The newest part of the log in memory, bounded: what readers and subscriptions that keep up are served from. */
import type { Logged } from './log.ts'

const maxEvents = 4_096
const maxSize = 4 * 1024 * 1024

/** Holds every event with `floor < id ≤ head`, in order. */
export class Tail {
  floor = 0n
  head = 0n
  size = 0
  #events: Logged[] = []

  get length(): number {
    return this.#events.length
  }

  /** Forgets all and stands at `head`. */
  reset(head: bigint): void {
    this.#events = []
    this.size = 0
    this.floor = this.head = head
  }

  /** Adds the next event; the oldest quarter goes when there are too many. */
  push(event: Logged): void {
    this.#events.push(event)
    this.head = event.id
    this.size += event.size
    while (this.#events.length > maxEvents || (this.size > maxSize && this.#events.length > 1)) {
      const gone = this.#events.splice(0, Math.ceil(this.#events.length / 4))
      this.floor = gone.at(-1)?.id ?? this.floor
      for (const { size } of gone) this.size -= size
    }
  }

  /** The events after `position` (which must not be under `floor`), oldest first, at most `limit`. */
  after(position: bigint, limit: number): readonly Logged[] {
    const start = this.#indexAfter(position)
    return this.#events.slice(start, start + limit)
  }

  /** The first event of this type after `position`. */
  next(position: bigint, type: string): Logged | undefined {
    for (let at = this.#indexAfter(position); at < this.#events.length; at++) if (this.#events[at]?.type === type) return this.#events[at]
    return undefined
  }

  #indexAfter(position: bigint): number {
    let [low, high] = [0, this.#events.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#events[middle]?.id ?? 0n) <= position) low = middle + 1
      else high = middle
    }
    return low
  }
}
