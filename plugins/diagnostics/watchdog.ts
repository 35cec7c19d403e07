/** Notices that the event loop was blocked, and by whom. */
import type { Place, Sampler } from './sampler.ts'

const tickMs = 100

/** What the watchdog works with. */
export interface WatchdogOptions {
  /** A loop that is late by so much was blocked, in ms. */
  readonly thresholdMs: number
  /** Null: nobody can be named. */
  readonly sampler: Sampler | null
  /** The plugin whose files these are, innermost first. */
  blame(files: readonly string[]): string
  /** Told after each block. */
  onBlocked(plugin: string, ms: number, place: Place | undefined): void
}

/** Starts watching; returns the end. */
export function startWatchdog({ thresholdMs, sampler, blame, onBlocked }: WatchdogOptions): () => void {
  let due = performance.now() + tickMs
  const timer = setInterval(() => {
    const now = performance.now()
    const late = now - due
    due = now + tickMs
    if (late < thresholdMs) return
    const told = sampler?.take(late + tickMs) ?? Promise.resolve([])
    void told
      .catch(() => [])
      .then((places) => {
        const { plugin, place } = judge(places, blame)
        onBlocked(plugin, late, place)
      })
  }, tickMs)
  timer.unref()
  return () => clearInterval(timer)
}

/** Who was seen most often, and where. */
export function judge(places: readonly Place[], blame: (files: readonly string[]) => string): { plugin: string; place: Place | undefined } {
  const seen = new Map<string, { count: number; place: Place }>()
  for (const place of places) {
    if (place.files.length === 0) continue
    const plugin = blame(place.files)
    const entry = seen.get(plugin)
    seen.set(plugin, { count: (entry?.count ?? 0) + 1, place })
  }
  const [most] = [...seen].sort(([, a], [, b]) => b.count - a.count)
  return most ? { plugin: most[0], place: most[1].place } : { plugin: blame([]), place: undefined }
}
