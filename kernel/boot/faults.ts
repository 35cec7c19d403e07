/** What breaks its contract at run time: logged with its plugin, counted, and published as `system:error`, at most once per plugin and cause in ten seconds. */
import type { Bus } from '../bus/bus.ts'
import type { OpenDatabase } from '../contract/database.ts'
import { systemError } from './kernel-events.ts'
import type { LogFactory } from './log.ts'

const quietMs = 10_000
const maxRemembered = 1_000

/** What it works with. Faults may come before the bus is there. */
export interface FaultsOptions {
  readonly logFor: LogFactory
  bus(): Bus
  /** An error may quote a secret, and events are kept and sent. */
  redact(text: string): string
  database(): Pick<OpenDatabase, 'outsideTransaction'>
}

/** Makes the collector. */
export function createFaults({ logFor, bus, redact, database }: FaultsOptions) {
  const lastPublished = new Map<string, number>()
  let total = 0
  return {
    /** How many since the start. */
    stats: () => ({ gauges: {}, counters: { faults: total } }),
    report(plugin: string, what: string, error: unknown): void {
      total++
      const message = error instanceof Error ? error.message : String(error)
      logFor(plugin).error(`${what} failed: ${message}`, { error: error instanceof Error ? (error.stack ?? error.message) : error })
      const key = `${plugin} ${what}`
      const now = Date.now()
      if (now - (lastPublished.get(key) ?? 0) < quietMs) return
      if (lastPublished.size >= maxRemembered) lastPublished.clear()
      lastPublished.set(key, now)
      const data = { plugin, what, message: redact(message).slice(0, 500) }
      // What breaks inside a transaction is reported outside of it: the report must not vanish with the rollback.
      const publish = async () => bus().publish('kernel', systemError, data)
      database()
        .outsideTransaction(publish)
        .catch((cause: unknown) => logFor('kernel').warn('system:error could not be published', { cause: String(cause) }))
    },
  }
}
