/** The plugin `event-log`: keeps durable events in the gateway's own database, and hands them to those who listen. Another plugin may provide the same service. */
import { definePlugin, kernel, statSources, t } from 'portico'
import { database } from 'portico/plugins/database'
import { eventLog } from './contract.ts'
import { createEventLog } from './event-log.ts'

const config = t.Object({
  retention: t.Object({
    maxAgeDays: t.Number({ exclusiveMinimum: 0, maximum: 3_650, default: 7 }),
    maxRows: t.Integer({ minimum: 1_000, default: 1_000_000 }),
  }),
})

export default definePlugin({
  id: 'event-log',
  version: '0.1.0',
  api: 1,
  summary: 'Keeps durable events in the database; they can be replayed',
  config,
  requires: { kernel, database },
  provides: { eventLog },
  adds: [statSources],
  migrations: new URL('./migrations', import.meta.url),
  onFailure: 'abort',

  setup(ctx) {
    const { kernel, database } = ctx.services
    const log = createEventLog({ database, log: ctx.log, clock: ctx.clock, retention: ctx.config.retention, report: kernel.report })
    ctx.add(statSources, log.stats)
    return { services: { eventLog: log } }
  },
})
