/** One at a time by key, within this process. */

/** Runs `body` once those that asked for the key before have ended. */
export type Lock = <T>(key: string, body: () => Promise<T>) => Promise<T>

/** Makes one; a key that nobody waits for is forgotten. */
export function createLock(): Lock {
  const tails = new Map<string, Promise<unknown>>()
  return async (key, body) => {
    const before = tails.get(key) ?? Promise.resolve()
    const mine = before.then(body, body)
    const tail = mine.catch(() => undefined)
    tails.set(key, tail)
    try {
      return await mine
    } finally {
      if (tails.get(key) === tail) tails.delete(key)
    }
  }
}
