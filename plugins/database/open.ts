/** Opens the store: drizzle on `pg`, over a PostgreSQL server or over an embedded one. Not for tables: those are the plugins'. */
import pg from 'pg'
import { GatewayError, inTime, type Logger } from 'portico'
import { isConnectionError } from './connection-errors.ts'
import type { DatabaseAccess, DatabaseServer } from './contract.ts'
import { createMigrate, type Migrate } from './migrate.ts'
import { createPulse } from './pulse.ts'
import { afterCommit, inTransaction, outsideTransaction, wrapDatabase } from './transactions.ts'

export { isConnectionError } from './connection-errors.ts'

/** Where the store is. */
export interface StoreOptions {
  /** `postgres://…` */
  url?: string
  /** What to connect to without a url. */
  server?: DatabaseServer
  /** Connections at most; default 10 on PostgreSQL, 4 on PGlite. */
  poolSize?: number
  log: Logger
}

/** An open store. */
export interface Store extends DatabaseAccess {
  /** Applies `0001_name.sql` … of the folder, each once, in order, all new ones in one transaction. A file changed after it was applied is an error by name. No query when nothing is new. */
  readonly migrate: Migrate
  /** Gauges of the pool. */
  stats(): Record<string, number>
  /** Waits for running queries, at most 4.5 s, and ends every connection. */
  close(): Promise<void>
}

/** How the pool and the listeners connect; in ms. The server ends a statement first; the client's own limit is for a server that went silent. */
const connection = { connectionTimeoutMillis: 5_000, keepAlive: true, keepAliveInitialDelayMillis: 10_000, application_name: 'portico' } as const
const deadlines = { statement_timeout: 30_000, query_timeout: 35_000, idle_in_transaction_session_timeout: 10_000 } as const

/**
 * Opens the store and reads which migrations are applied.
 * @throws GatewayError `database_unavailable` when it does not answer
 */
export async function openStore({ url, server, poolSize, log }: StoreOptions): Promise<Store> {
  const target = { ...connection, ...(server?.connection ?? { connectionString: url }) }
  const pool = new pg.Pool({ ...deadlines, idleTimeoutMillis: 30_000, max: poolSize ?? (server ? 4 : 10), ...target })
  // Without these, a connection that ends while idle or inside a transaction would end the process.
  pool.on('error', (error) => log.warn('An idle database connection ended', { error }))
  pool.on('connect', (client) => client.on('error', (error) => log.debug('A database connection ended', { error })))
  const pulse = createPulse(pool, target, { cuts: !server })
  const close = async () => {
    pulse.stop()
    // The kernel waits 5 s for a disposer.
    await inTime(pool.end(), 4_500, () => new Error('it was not closed in time')).catch(() => {})
  }
  const migrate = await createMigrate(pool, log).catch(async (cause) => {
    await close()
    if (!isConnectionError(cause)) throw cause
    return unavailable('Check that the server runs and that database.url is right.')(cause)
  })
  return {
    db: wrapDatabase(pool, (error) => log.error('A callback after a commit failed', { error })),
    kind: server ? 'pglite' : 'postgres',
    pool,
    openPool: (own) => new pg.Pool({ ...target, ...own }),
    migrate,
    ...{ afterCommit, inTransaction, outsideTransaction, isConnectionError },
    async ping() {
      await inTime(pulse.ask(), 1_000, () => new Error('It did not answer within a second.')).catch(unavailable('It is tried again with every request.'))
    },
    stats: () => ({
      'database.connections': pool.totalCount,
      'database.idle': pool.idleCount,
      'database.waiting': pool.waitingCount,
    }),
    close,
  }
}

/** Throws what a lost connection means to those who waited for an answer. */
function unavailable(next: string): (cause: unknown) => never {
  return (cause) => {
    throw new GatewayError('database_unavailable', `The database does not answer. ${next}`, { cause, retryAfter: 2 })
  }
}
