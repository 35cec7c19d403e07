/** Migrations of each plugin: SQL files applied once, in order, remembered in `portico_migrations`. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import { GatewayError } from '../contract/errors.ts'
import type { Logger } from '../contract/plugin.ts'
import { isConnectionError } from './connection-errors.ts'
import { withTransaction } from './transactions.ts'

/** What is applied, and how to apply the rest. */
export interface Migrator {
  /** Reads all applied rows, once. */
  load(): Promise<void>
  /** Applies what is new in the folder. */
  run(pluginId: string, folder: URL): Promise<void>
}

interface Migration {
  readonly name: string
  readonly sql: string
  readonly hash: string
}

/** Several nodes may start at once on one PostgreSQL: "PORT" in ASCII. */
const lockKey = 0x504f5254
const longestMs = 600_000
const createTable = `create table if not exists portico_migrations (
  plugin text not null, name text not null, hash text not null, applied_at timestamptz not null default now(), primary key (plugin, name))`

/** Migrations over a pool. */
export function createMigrator(pool: pg.Pool, log: Logger): Migrator {
  const applied = new Map<string, Map<string, string>>()
  const hashesOf = (plugin: string) => applied.get(plugin) ?? new Map<string, string>()
  const note = (rows: readonly { plugin: string; name: string; hash: string }[]) => {
    for (const { plugin, name, hash } of rows) applied.set(plugin, hashesOf(plugin).set(name, hash))
  }

  return {
    async load() {
      const { rows } = await pool.query('select plugin, name, hash from portico_migrations').catch((error) => {
        if (error?.code === '42P01') return { rows: [] }
        throw error
      })
      note(rows)
    },

    async run(plugin, folder) {
      const migrations = await readMigrations(plugin, folder)
      if (pendingOf(plugin, migrations, hashesOf(plugin)).length === 0) return
      let current = ''
      try {
        await withTransaction(pool, async (client) => {
          const patient = (text: string) => client.query({ text, query_timeout: longestMs } as pg.QueryConfig)
          await client.query(`set local statement_timeout = ${longestMs}`)
          await patient(`select pg_advisory_xact_lock(${lockKey})`)
          await client.query(createTable)
          // Another node may have been faster.
          note((await client.query('select plugin, name, hash from portico_migrations where plugin = $1', [plugin])).rows)
          for (const { name, sql, hash } of pendingOf(plugin, migrations, hashesOf(plugin))) {
            current = name
            await patient(sql)
            await client.query('insert into portico_migrations (plugin, name, hash) values ($1, $2, $3)', [plugin, name, hash])
            log.info('Migration applied', { plugin, name })
          }
        })
      } catch (cause) {
        throw describe(cause, plugin, current)
      }
      note(migrations.map(({ name, hash }) => ({ plugin, name, hash })))
    },
  }
}

function describe(cause: unknown, plugin: string, name: string): GatewayError {
  if (cause instanceof GatewayError) return cause
  if (isConnectionError(cause))
    return new GatewayError('database_unavailable', 'The database went away during the migrations. Start again when it is back.', { cause, plugin })
  const why = cause instanceof Error ? cause.message : String(cause)
  return refused(plugin, `The migration ${name} failed: ${why}. Nothing of it was kept; mend it and start again.`, cause)
}

function pendingOf(plugin: string, migrations: readonly Migration[], applied: ReadonlyMap<string, string>): Migration[] {
  const changed = migrations.find(({ name, hash }) => (applied.get(name) ?? hash) !== hash)
  if (changed) throw refused(plugin, `The migration ${changed.name} was changed after it had been applied. Restore the file and put the change into a new one.`)
  return migrations.filter(({ name }) => !applied.has(name))
}

function refused(plugin: string, message: string, cause?: unknown): GatewayError {
  return new GatewayError('plugin_failed', message, { plugin, cause })
}

async function readMigrations(plugin: string, folder: URL): Promise<Migration[]> {
  const base = fileURLToPath(folder.href)
  const names = (await readdir(base)).filter((name) => name.endsWith('.sql')).sort()
  const wrong = names.find((name, at) => !/^\d{4}_[a-z0-9_]+\.sql$/.test(name) || names[at - 1]?.slice(0, 4) === name.slice(0, 4))
  if (wrong) throw refused(plugin, `The migration ${wrong} is not named by a number of its own, like 0001_what_it_does.sql. Rename it.`)
  return Promise.all(
    names.map(async (name) => {
      const sql = (await readFile(join(base, name), 'utf8')).replaceAll('\r\n', '\n')
      return { name, sql, hash: createHash('sha256').update(sql).digest('hex') }
    }),
  )
}
