/** The plugin `database`: opens PostgreSQL, the embedded one or that of `database.url`, for all plugins, and brings their tables up to date. */
import { definePlugin, secret, statSources, t } from 'portico'
import { database, databaseServer } from './contract.ts'
import { openStore } from './open.ts'

export default definePlugin({
  id: 'database',
  version: '0.1.0',
  api: 1,
  summary: 'Opens the database that all plugins share',
  config: t.Object({
    url: t.Optional(secret({ minLength: 1, description: 'postgres://…; absent = the embedded database in the data folder' })),
  }),
  optional: { server: databaseServer },
  provides: { database },
  adds: [statSources],
  setupDeadline: 30_000,

  async setup({ config, services, log, defer, add }) {
    const store = await openStore({ url: config.url, server: services.server, log })
    defer(store.close)
    add(statSources, () => ({ gauges: store.stats(), counters: {} }))
    return { services: { database: store } }
  },
})
