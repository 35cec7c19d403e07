/** Deadlines: nothing at start or stop is waited for without one. */
import { GatewayError } from '../contract/errors.ts'
import type { Clock } from '../contract/plugin.ts'

/** Settles like `work`, or rejects after `ms` with a message that names the culprit. The work itself goes on; its late failure is swallowed. */
export async function withDeadline<T>(work: Promise<T> | T, ms: number, culprit: string): Promise<T> {
  if (!(work instanceof Promise)) return work
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new GatewayError('deadline_exceeded', `${culprit} did not finish within ${ms} ms.`)), ms)
  })
  work.catch(() => {})
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The real clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const onAbort = () => {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }, ms)
      signal?.addEventListener('abort', onAbort, { once: true })
    }),
}
