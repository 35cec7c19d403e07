/** What the kernel needs of the plugins that all others stand on. What else the database can do is in the contract of the plugin `database`. */
import type { Database } from './plugin.ts'
import { defineService } from './refs.ts'

/** Keeps the folder of `ctx.dataDir` for this gateway alone until all plugins have ended. Provided by the plugin that is set up first of all. */
export const dataFolder = defineService<{ readonly path: string }>('data-folder')

/** Serves the database on this machine: it is set up before that opens, behind the data folder's lock, and only when `database.url` is absent; it ends after the database. */
export const databaseServer = defineService<{ readonly socketPath: string }>('database-server')

/** The open database. */
export interface OpenDatabase {
  /** What plugins have as `ctx.db`. */
  readonly db: Database
  /** Brings a plugin's tables up to what its folder of `0001_name.sql` … says. Called before its set-up. */
  migrate(plugin: string, folder: URL): Promise<void>
  /** True inside the body of a `db.transaction` that has not ended yet. */
  inTransaction(): boolean
  /** Runs `body` as if no transaction surrounded it: for work that only happens to be started there. */
  outsideTransaction<T>(body: () => T): T
  /** True when the error, or one of its causes, means that the database cannot be reached now: the same request may succeed later. */
  isConnectionError(error: unknown): boolean
}

/** Provided by the plugin that opens it, in its set-up, before everybody else's; no gateway runs without. */
export const openDatabase = defineService<OpenDatabase>('database')
