/** Keys that were good, for a time in which the database cannot say whether they still are. In memory, by digest: never a key itself. */
import type { AuthResult, Clock } from 'portico'

/** The keys that were good. */
export interface Remembered {
  /** Changes with every `forget`: what was found out before must not be noted after it. */
  readonly epoch: number
  note(digest: string, entry: { principal: AuthResult['principal']; expiresAt: Date | null }): void
  /** The principal of a key that was good within the time of grace and has not expired; null for all others. */
  find(digest: string): AuthResult | null
  /** It was refused. */
  drop(digest: string): void
  /** The key of this `via` is not what it was. */
  forget(via: string): void
}

const maxRemembered = 10_000
/** ms until the database is asked again. */
const askAgain = 15_000

/** Makes the memory. `graceMs` counts from the last time the database said that the key is good; 0 = remembers nothing. */
export function createRemembered(clock: Clock, graceMs: number): Remembered {
  const entries = new Map<string, { principal: AuthResult['principal']; until: number }>()
  let epoch = 0
  return {
    get epoch() {
      return epoch
    },
    note(digest, { principal, expiresAt }) {
      if (graceMs === 0) return
      // The oldest is the first.
      entries.delete(digest)
      entries.set(digest, { principal, until: Math.min(clock.now() + graceMs, expiresAt?.getTime() ?? Number.POSITIVE_INFINITY) })
      if (entries.size > maxRemembered) entries.delete(entries.keys().next().value ?? digest)
    },
    find(digest) {
      const entry = entries.get(digest)
      const now = clock.now()
      if (!entry || entry.until <= now) return null
      return { principal: entry.principal, cacheUntil: Math.min(now + askAgain, entry.until) }
    },
    drop: (digest) => void entries.delete(digest),
    forget(via) {
      epoch++
      for (const [digest, { principal }] of entries) if (principal.via === via) entries.delete(digest)
    },
  }
}
