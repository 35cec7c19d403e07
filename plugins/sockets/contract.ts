/** For plugins with sockets: how many messages one connection may send. */
import { type Clock, type Static, t } from 'portico'

/** A section of your config. */
export const messageRateLimit = t.Object(
  {
    maxMessages: t.Integer({ minimum: 1, maximum: 100_000, default: 60, description: 'Messages of one connection in the window' }),
    windowMs: t.Integer({ minimum: 100, maximum: 3_600_000, default: 60_000, description: 'ms; the window slides' }),
  },
  { default: {} },
)

/** The messages of one connection. */
export interface MessageWindow {
  /** For each message that comes: 0 = it is counted and may be read, else the ms until one will be. */
  take(): number
}

/** Makes a window that slides: one for each connection. Holds a number for each message in it. */
export function createMessageWindow({ maxMessages, windowMs }: Static<typeof messageRateLimit>, clock: Pick<Clock, 'now'>): MessageWindow {
  /** When the latest messages came, the oldest first. */
  const arrivals: number[] = []
  return {
    take() {
      const now = clock.now()
      while (arrivals.length > 0 && (arrivals[0] ?? 0) <= now - windowMs) arrivals.shift()
      if (arrivals.length >= maxMessages) return (arrivals[0] ?? now) + windowMs - now
      arrivals.push(now)
      return 0
    },
  }
}
