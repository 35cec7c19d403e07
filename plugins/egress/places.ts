/** How many may be under way at once, in all and to one host. Nobody queues: who finds no place is refused. */

/** The places. */
export interface Places {
  /** Takes one; the returned function gives it back. Null if there is none. */
  take(): (() => void) | null
  /** The same to one host. */
  takeFor(host: string): (() => void) | null
}

/** Makes them. */
export function createPlaces(max: number, maxPerHost: number): Places {
  let taken = 0
  // Bounded by `max`: every host in it has a call under way, and a call has one host at a time.
  const hosts = new Map<string, number>()
  return {
    take() {
      if (taken >= max) return null
      taken++
      return () => void taken--
    },
    takeFor(host) {
      const before = hosts.get(host) ?? 0
      if (before >= maxPerHost) return null
      hosts.set(host, before + 1)
      return () => {
        const left = (hosts.get(host) ?? 1) - 1
        if (left === 0) hosts.delete(host)
        else hosts.set(host, left)
      }
    },
  }
}
