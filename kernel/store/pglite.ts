/** PGlite in the data folder, in a worker thread behind a unix socket. */
import type pg from 'pg'
import type { Logger } from '../contract/plugin.ts'

/** A running PGlite. */
export interface Pglite {
  readonly connection: pg.ClientConfig
  readonly socketPath: string
  stop(): Promise<void>
}

/** Starts it. */
export async function startPglite(_dataDir: string, _log: Logger): Promise<Pglite> {
  throw new Error('being written')
}
