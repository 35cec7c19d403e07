/** Which events a test saw, and waiting for one of them. */
import type { GatewayEvent } from '../contract/event.ts'

/** The events since the start, live and durable, in the order of delivery. */
export interface EventTrace {
  readonly all: readonly GatewayEvent[]
  types(): string[]
  /** The first event of this type that satisfies the predicate, seen already or still to come; rejects after `ms` (default 5,000). */
  waitFor(type: string, predicate?: (event: GatewayEvent) => boolean, ms?: number): Promise<GatewayEvent>
  /** Throws unless exactly these types were seen in this order, those beginning with `ignore` left out. */
  expect(types: readonly string[], options?: { ignore?: readonly string[] }): void
  clear(): void
}

/** Starts tracing. */
export function traceEvents(subscribe: (listener: (event: GatewayEvent) => void) => () => void): EventTrace & { stop(): void } {
  let all: GatewayEvent[] = []
  const waiters = new Set<(event: GatewayEvent) => void>()
  const stop = subscribe((event) => {
    all.push(event)
    for (const waiter of [...waiters]) waiter(event)
  })
  return {
    get all() {
      return all
    },
    stop,
    types: () => all.map(({ type }) => type),
    clear() {
      all = []
    },
    waitFor(type, predicate = () => true, ms = 5_000) {
      const seen = all.find((event) => event.type === type && predicate(event))
      if (seen) return Promise.resolve(seen)
      return new Promise((resolve, reject) => {
        const waiter = (event: GatewayEvent) => {
          if (event.type !== type || !predicate(event)) return
          clearTimeout(timer)
          waiters.delete(waiter)
          resolve(event)
        }
        const timer = setTimeout(() => {
          waiters.delete(waiter)
          reject(new Error(`No event ${type} within ${ms} ms; seen: ${all.map((event) => event.type).join(', ') || 'none'}`))
        }, ms)
        waiters.add(waiter)
      })
    },
    expect(types, options = {}) {
      const ignore = options.ignore ?? ['plugin:']
      const seen = all.map(({ type }) => type).filter((type) => !ignore.some((prefix) => type.startsWith(prefix)))
      if (seen.join() !== types.join()) throw new Error(`Expected the events [${types.join(', ')}], saw [${seen.join(', ')}]`)
    },
  }
}
