/** Opens the store: drizzle on `pg`, over a PostgreSQL server or over PGlite in the data folder. Not for tables: those are the plugins'. */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { GatewayError } from '../contract/errors.ts'
import type { Database, Logger } from '../contract/plugin.ts'
import { isConnectionError } from './connection-errors.ts'
import { type Listen, startListening } from './listen.ts'
import { createMigrator } from './migrate.ts'
import { wrapDatabase } from './transactions.ts'

export { isConnectionError } from './connection-errors.ts'

/** Where the store is. */
export interface StoreOptions {
  /** `postgres://…`; without it PGlite runs in the data folder. */
  url?: string
  dataDir: string
  /** Connections at most; default 10 on PostgreSQL, 4 on PGlite. */
  poolSize?: number
  log: Logger
}

/** An open store. */
export interface Store {
  /** drizzle, with the guards of transactions.ts. */
  readonly db: Database
  readonly kind: 'pglite' | 'postgres'
  /** For libraries that bring their own SQL. Its queries pass no guard: never use it inside `db.transaction`. */
  readonly pool: pg.Pool
  /** PGlite's socket, `<folder>/.s.PGSQL.5432`: `pg` and `psql` connect with `host=<folder>`, user and database `postgres`. Null on PostgreSQL. */
  readonly socketPath: string | null
  /**
   * Hears a channel on a connection of its own, which reconnects by itself. Notifications of the time without connection are lost: after each
   * reconnect `onNotify('')` is called once, so treat a notification as "look", not as the news. Resolves when it listens; its result ends it.
   */
  listen(channel: string, onNotify: (payload: string) => void): Promise<() => Promise<void>>
  /** Applies `0001_name.sql` … of the folder, each once, in order, all new ones in one transaction. A file changed after it was applied is an error by name. No query when nothing is new. */
  migrate(pluginId: string, folder: URL): Promise<void>
  /** One round trip, within a second. @throws GatewayError `database_unavailable` */
  ping(signal?: AbortSignal): Promise<void>
  /** Gauges of the pool. */
  stats(): Record<string, number>
  /** Waits for running queries, at most 5 s, and ends every connection, and PGlite. */
  close(): Promise<void>
}

/** How the pool and the listeners connect; deadlines in ms. */
const connection = { connectionTimeoutMillis: 10_000, keepAlive: true, keepAliveInitialDelayMillis: 10_000, application_name: 'portico' } as const
/** The server ends a statement first; the client's own limit is for a server that went silent. */
const deadlines = { statement_timeout: 30_000, query_timeout: 35_000, idle_in_transaction_session_timeout: 10_000 } as const

/**
 * Opens the store and reads which migrations are applied. On PGlite the folder `<dataDir>/db` is locked, and the worker begins at once.
 * @throws GatewayError `database_unavailable` when it does not answer, `conflict` when another process has the folder
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { log } = options
  const pglite = options.url === undefined ? await (await import('./pglite.ts')).startPglite(options.dataDir, log) : null
  const target: pg.PoolConfig = pglite ? pglite.connection : { connectionString: options.url }
  const pool = new pg.Pool({ ...connection, ...deadlines, idleTimeoutMillis: 30_000, max: options.poolSize ?? (pglite ? 4 : 10), ...target })
  // Without these, a connection that ends while idle or inside a transaction would end the process.
  pool.on('error', (error) => log.warn('An idle database connection ended', { error }))
  pool.on('connect', (client) => client.on('error', (error) => log.debug('A database connection ended', { error })))

  const listeners = new Set<Listen>()
  const close = async () => {
    await Promise.all([...listeners].map((listener) => listener.stop()))
    await Promise.race([pool.end(), sleep(5_000, undefined, { ref: false })])
    await pglite?.stop()
  }
  /** Connections that were cut while idle say nothing about the server: as many more are asked. */
  const select = async () => {
    for (let left = pool.totalCount; ; left--) {
      try {
        return await pool.query('select 1')
      } catch (error) {
        if (left === 0) throw error
      }
    }
  }
  const migrate = createMigrator(pool, log)
  try {
    await migrate.load()
  } catch (cause) {
    await close()
    if (!isConnectionError(cause)) throw cause
    throw unavailable(cause, 'Check that the server runs and that database.url is right.')
  }
  return {
    db: wrapDatabase(pool, (error) => log.error('A callback after a commit failed', { error })),
    kind: pglite ? 'pglite' : 'postgres',
    pool,
    socketPath: pglite?.socketPath ?? null,
    async listen(channel, onNotify) {
      const listener = startListening({ ...connection, ...target }, channel, onNotify, log)
      listeners.add(listener)
      const stop = async () => {
        listeners.delete(listener)
        await listener.stop()
      }
      await listener.listening.catch(async (cause) => {
        await stop()
        throw unavailable(cause, 'Try again when it is back.')
      })
      return stop
    },
    migrate: migrate.run,
    async ping(signal) {
      try {
        const late = sleep(1_000, undefined, { ref: false, signal }).then(() => Promise.reject(new Error('The database did not answer within a second')))
        await Promise.race([late, select()])
      } catch (cause) {
        throw unavailable(cause, 'It is tried again with every request.')
      }
    },
    stats: () => ({
      'database.connections': pool.totalCount,
      'database.idle': pool.idleCount,
      'database.waiting': pool.waitingCount,
      'database.listeners': listeners.size,
    }),
    close,
  }
}

function unavailable(cause: unknown, next: string): GatewayError {
  return new GatewayError('database_unavailable', `The database does not answer. ${next}`, { cause, retryAfter: 2 })
}
