/** The log on PostgreSQL or PGlite: an outbox that publishers write to, one appender that gives ids, a tail in memory, durable subscriptions. Design §5. */
import type { Clock, EventDelivery, KernelStats, Logger } from 'portico'
import type { DatabaseAccess } from 'portico/plugins/database'
import { createBatches } from './batch.ts'
import type { EventLog } from './contract.ts'
import { readHead, readLog, readNewest } from './log.ts'
import type { LogParts, LogPeriods } from './parts.ts'
import { createPump } from './pump.ts'
import { toRecord } from './record.ts'
import { createTrimmer, type Retention } from './retention.ts'
import { createSubscriptions, type Report } from './subscriptions.ts'
import { Tail } from './tail.ts'

/** What the log works with. */
export interface EventLogOptions {
  readonly database: DatabaseAccess
  readonly log: Logger
  readonly clock: Clock
  readonly retention: Retention
  /** Hears what a durable subscription could not do. */
  readonly report: Report
  readonly periods?: Partial<LogPeriods>
}

const stopMs = 5_000

/** Creates it over migrated tables. */
export function createEventLog({ retention, periods, report, ...given }: EventLogOptions): EventLog & { stats(): KernelStats } {
  const { pool, kind } = given.database
  const tail = new Tail()
  const parts: LogParts = { ...given, tail, periods: { poll: 2_000, lease: kind === 'pglite' ? 60_000 : 4_000, save: 200, trim: 60_000, ...periods } }
  let deliver: (events: readonly EventDelivery[]) => void = () => {}
  let appended = 0
  const subscriptions = createSubscriptions(parts, report)
  const batches = createBatches(() => pump.wake())
  const trimmer = createTrimmer(parts, retention, () => appended)
  const pump = createPump(parts, (events) => {
    appended += events.length
    deliver(events)
    if (subscriptions.count() > 0) subscriptions.wake(new Set(events.map(({ type }) => type)))
  })

  return {
    async start(to) {
      deliver = to
      await pump.start()
      await subscriptions.start()
      trimmer.start()
    },
    write(event, tx) {
      const record = toRecord(event, !tx && given.database.inTransaction())
      if (tx === undefined) return pump.write(record)
      return batches.take(tx, record) ? Promise.resolve() : pump.writeIn(tx, record)
    },
    subscribe: subscriptions.add,
    head: () => tail.head,
    lastId: async () => (await readHead(pool)).head,
    // At the end of the log, what is under the tail's floor and missing was trimmed.
    async read(position, filter) {
      if (position < tail.floor) await pump.preloaded()
      return tail.page(position) ?? readLog(pool, position, { ...filter, end: tail.floor })
    },
    newest: (limit, filter) => readNewest(pool, limit, filter),
    batch: batches.open,
    async stop() {
      await trimmer.stop()
      await subscriptions.stop(stopMs)
      await pump.stop(stopMs)
    },
    stats: () => ({
      gauges: {
        ...{ 'bus.tail.events': tail.length, 'bus.tail.bytes': tail.size },
        ...{ 'bus.outbox.pending': pump.pending(), 'bus.outbox.lag': pump.lagMs() / 1000 },
        ...{ 'bus.subscriptions': subscriptions.count(), 'bus.subscriptions.lag': subscriptions.lagMs() / 1000 },
      },
      counters: {
        'bus.appended': appended,
        ...{ 'bus.subscriptions.retried': subscriptions.counters.retried, 'bus.subscriptions.dead': subscriptions.counters.dead },
      },
    }),
  }
}
