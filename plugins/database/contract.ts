/** What other plugins may use of the database beside `ctx.db`: for those that bring their own SQL, an event log, a queue; and what serves it. */
import type pg from 'pg'
import { defineService, type OpenDatabase, type Transaction } from 'portico'

export { callOf, statement } from './statement.ts'
export { beginning, storable, storableJson } from './storable.ts'

/** A database served on this machine for this gateway alone. */
export interface DatabaseServer {
  /** How `pg` connects. */
  readonly connection: {
    readonly host: string
    readonly port: number
    readonly user: string
    readonly password: string
    readonly database: string
    readonly ssl: false
  }
  /** Its socket, `<folder>/.s.PGSQL.5432`: `psql` connects with `host=<folder>`. */
  readonly socketPath: string
}

/** Provided by the plugin that embeds a database. It is set up before the database opens, without `ctx.db`, behind the data folder's lock, and only when `database.url` is absent; it ends after the database. */
export const databaseServer = defineService<DatabaseServer>('database-server')

/** The database, whole. */
export interface DatabaseAccess extends OpenDatabase {
  /** `pglite`: embedded, no other process can have it. */
  readonly kind: 'pglite' | 'postgres'
  /** Its queries pass no guard: never use it inside `db.transaction`. */
  readonly pool: pg.Pool
  /** A pool of your own to the same database, for what occupies a connection: LISTEN, COPY. Whoever opens it hears its errors, and ends it. */
  openPool(options: pg.PoolConfig): pg.Pool
  /** Calls back once the outermost transaction has committed, and never otherwise. The callback must not throw. */
  afterCommit(tx: Transaction, callback: () => void): void
  /** One round trip, within a second. @throws GatewayError `database_unavailable` */
  ping(): Promise<void>
}

/** Provided by the plugin that opens it. */
export const database = defineService<DatabaseAccess>('database')
