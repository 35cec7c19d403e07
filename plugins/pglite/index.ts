/** The plugin `pglite`: PostgreSQL embedded in the data folder, for gateways whose config names no `database.url`. */
import { definePlugin, t } from 'portico'
import { databaseServer } from 'portico/plugins/database'
import { createPglite } from './pglite.ts'

export default definePlugin({
  id: 'pglite',
  version: '0.1.0',
  api: 1,
  summary: 'PostgreSQL embedded in the data folder, unless database.url is set',
  config: t.Object({
    silenceMs: t.Integer({ minimum: 100, maximum: 600_000, default: 10_000, description: 'ms that a transaction may be silent; then it is rolled back' }),
    stuckMs: t.Integer({ minimum: 1_000, maximum: 3_600_000, default: 60_000, description: 'ms that a statement may run; then the database is started again' }),
    sharedBuffersMb: t.Integer({ minimum: 1, maximum: 4_096, default: 16, description: 'MB of the database’s own page cache; the system’s lies behind it' }),
  }),
  provides: { server: databaseServer },
  // A start after a crash first replays what was written since the last checkpoint.
  setupDeadline: 300_000,

  async setup({ config, dataDir, log, defer }) {
    const pglite = await createPglite({ dataDir, log, ...config })
    defer(pglite.stop)
    await pglite.open()
    return { services: { server: pglite.server } }
  },
})
