/** Migrations of each plugin: SQL files applied once, in order, remembered in `portico_migrations`. */
import type pg from 'pg'
import { GatewayError, type Logger } from 'portico'
import { isConnectionError } from './connection-errors.ts'
import { readMigrations } from './migrations.ts'

/** Applies what is new in a plugin's folder. */
export type Migrate = (plugin: string, folder: URL) => Promise<void>

const longestMs = 600_000
/** Several nodes may start at once on one PostgreSQL: they lock "PORT" in ASCII. */
const begin = `begin; set local statement_timeout = ${longestMs}; select pg_advisory_xact_lock(${0x504f5254});
  create table if not exists portico_migrations (plugin text not null, name text not null, hash text not null,
    applied_at timestamptz not null default now(), primary key (plugin, name))`

/** Reads, once, what is applied. */
export async function createMigrate(pool: pg.Pool, log: Logger): Promise<Migrate> {
  const applied = new Map<string, string>()
  const read = async (client: pg.Pool | pg.PoolClient) => {
    const { rows } = await client.query('select plugin, name, hash from portico_migrations')
    for (const { plugin, name, hash } of rows) applied.set(`${plugin}/${name}`, hash)
  }
  await read(pool).catch((error) => {
    if (error?.code !== '42P01') throw error
  })

  return async (plugin, folder) => {
    const migrations = await readMigrations(folder, (what) => refused(plugin, what))
    const isNew = ({ name, hash }: { name: string; hash: string }) => {
      const known = applied.get(`${plugin}/${name}`)
      if (known !== undefined && known !== hash)
        throw refused(plugin, `The migration ${name} was changed after it had been applied. Restore the file and put the change into a new one.`)
      return known === undefined
    }
    if (!migrations.some(isNew)) return
    const client = await pool.connect().catch((cause) => Promise.reject(failed(plugin, '', cause)))
    // The client's own limit is for a server that went silent.
    const patient = (text: string) => client.query({ text, query_timeout: longestMs } as pg.QueryConfig)
    let current = ''
    try {
      await patient(begin)
      // Another node may have been faster.
      await read(client)
      for (const { name, sql, hash } of migrations.filter(isNew)) {
        current = name
        await patient(sql)
        await client.query('insert into portico_migrations (plugin, name, hash) values ($1, $2, $3)', [plugin, name, hash])
        log.info('Migration applied', { plugin, name })
      }
      await client.query('commit')
      for (const { name, hash } of migrations) applied.set(`${plugin}/${name}`, hash)
    } catch (cause) {
      throw cause instanceof GatewayError ? cause : failed(plugin, current, cause)
    } finally {
      // The connection ends, and with it whatever was not committed.
      client.release(true)
    }
  }
}

function failed(plugin: string, name: string, cause: unknown): GatewayError {
  if (isConnectionError(cause))
    return new GatewayError('database_unavailable', 'The database went away during the migrations. Start again when it is back.', { cause, plugin })
  return refused(plugin, `The migration ${name} failed: ${(cause as Error).message}. Nothing of it was kept; mend it and start again.`, cause)
}

function refused(plugin: string, message: string, cause?: unknown): GatewayError {
  return new GatewayError('plugin_failed', message, { plugin, cause })
}
