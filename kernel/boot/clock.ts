/** The real clock. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../contract/plugin.ts'

/** The machine's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => Promise.reject(signal?.reason)),
}
