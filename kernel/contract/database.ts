/** What every plugin stands on: the data folder, what serves a database, the database. Plugins with tables use `ctx.db`. */
import type pg from 'pg'
import type { Database, Transaction } from './plugin.ts'
import { defineService } from './refs.ts'

/** The folder of `ctx.dataDir`, which is this gateway's alone until all plugins have ended. */
export interface DataFolder {
  readonly path: string
}

/** Provided by the plugin that is set up first of all. */
export const dataFolder = defineService<DataFolder>('data-folder')

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

/** The database as the service `kernel` shows it, for plugins that bring their own SQL: an event log, a queue. */
export interface DatabaseAccess {
  /** `pglite`: embedded, no other process can have it. */
  readonly kind: 'pglite' | 'postgres'
  /** Its queries pass no guard: never use it inside `db.transaction`. */
  readonly pool: pg.Pool
  /** A pool of your own to the same database, for what occupies a connection: LISTEN, COPY. Whoever opens it hears its errors, and ends it. */
  openPool(options: pg.PoolConfig): pg.Pool
  /** Calls back once the outermost transaction has committed, and never otherwise. The callback must not throw. */
  afterCommit(tx: Transaction, callback: () => void): void
  /** True inside the body of a `db.transaction` that has not ended yet. */
  inTransaction(): boolean
  /** Runs `body` as if no transaction surrounded it: for work that only happens to be started there. */
  outsideTransaction<T>(body: () => T): T
  /** True when the error, or one of its causes, means that the database cannot be reached now: the same request may succeed later. */
  isConnectionError(error: unknown): boolean
}

/** The open database. */
export interface OpenDatabase extends DatabaseAccess {
  /** What plugins have as `ctx.db`. */
  readonly db: Database
  /** Brings a plugin's tables up to what its folder of `0001_name.sql` … says. Called before its set-up. */
  migrate(plugin: string, folder: URL): Promise<void>
  /** One round trip, within a second. @throws GatewayError `database_unavailable` */
  ping(): Promise<void>
}

/** Provided by the plugin that opens it, in its set-up, before everybody else's; no gateway runs without. */
export const database = defineService<OpenDatabase>('database')
