/** The newest part of the log in memory, bounded: what readers and subscriptions that keep up are served from. */
import type { LoggedEvent, LogPage } from './contract.ts'

const maxEvents = 4_096
const maxSize = 4 * 1024 * 1024
const pageEvents = 500

/** Holds every event with `floor < id ≤ head`, in order. */
export class Tail {
  floor = 0n
  head = 0n
  size = 0
  #events: LoggedEvent[] = []

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
  push(event: LoggedEvent): void {
    this.#events.push(event)
    this.head = event.id
    this.size += event.json.length
    while (this.#events.length > maxEvents || (this.size > maxSize && this.#events.length > 1)) {
      const gone = this.#events.splice(0, Math.ceil(this.#events.length / 4))
      this.floor = gone.at(-1)?.id ?? this.floor
      for (const { json } of gone) this.size -= json.length
    }
  }

  /** Adds what lies right under the floor, which `older` ends with; nothing, when the floor has risen meanwhile. */
  extend(floor: bigint, older: readonly LoggedEvent[]): void {
    const [oldest] = older
    if (this.floor !== floor || !oldest) return
    this.#events.unshift(...older)
    this.floor = oldest.id - 1n
    for (const { json } of older) this.size += json.length
  }

  /** A page of the events after `position`; null when it lies under `floor`. */
  page(position: bigint): LogPage | null {
    if (position < this.floor) return null
    const start = this.#indexAfter(position)
    const events = this.#events.slice(start, start + pageEvents)
    return { events, reached: events.at(-1)?.id ?? this.head, trimmed: 0n }
  }

  /** The first event of this type after `position`. */
  next(position: bigint, type: string): LoggedEvent | undefined {
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
