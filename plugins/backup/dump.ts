/** Reads every table of the gateway at one moment, and puts a backup back. */
import type pg from 'pg'
import { GatewayError } from 'portico'
import { type AppliedMigration, type BackupHeader, type BackupLine, checkBackup, readBackup } from './format.ts'

const migrationsTable = 'portico_migrations'
const rowsAtOnce = 100
const insertBytes = 1024 * 1024
/** ms of one statement of a restore; a large table is inserted in many. */
const patience = 600_000

/** Which migrations this database has seen. */
export async function appliedMigrations(from: pg.Pool | pg.PoolClient): Promise<readonly AppliedMigration[]> {
  const { rows } = await from.query<AppliedMigration>(`select plugin, name, hash from ${migrationsTable} order by plugin, name`)
  return rows
}

/** The tables and rows of one moment, whatever is written meanwhile. The reader must not pause: the embedded database serves nobody else until it is done. */
export async function* dumpTables(pool: pg.Pool): AsyncGenerator<BackupLine> {
  const client = await pool.connect()
  let isClean = false
  try {
    await client.query('begin isolation level repeatable read read only')
    for (const table of await tablesOf(client)) {
      if (table === migrationsTable) continue
      yield { table }
      await client.query(`declare backup no scroll cursor for select row_to_json(t)::text as row from ${quote(table)} t`)
      for (let more = true; more; ) {
        const { rows } = await client.query<{ row: string }>(`fetch ${rowsAtOnce} from backup`)
        for (const { row } of rows) yield { row }
        more = rows.length === rowsAtOnce
      }
      await client.query('close backup')
    }
    await client.query('commit')
    isClean = true
  } finally {
    // A connection inside a transaction must not go back into the pool.
    client.release(!isClean)
  }
}

/** Replaces everything in the gateway's tables by the backup, all of it or nothing. @throws GatewayError `invalid_request`, naming what does not fit */
export async function restoreTables(pool: pg.Pool, file: string): Promise<{ header: BackupHeader; tables: number; rows: number }> {
  const header = await checkBackup(file)
  const client = await pool.connect()
  let isClean = false
  try {
    await client.query('begin')
    await client.query(`set local statement_timeout = ${patience}`)
    refuseMisfit(header, await appliedMigrations(client))
    const tables = (await tablesOf(client)).filter((table) => table !== migrationsTable)
    if (tables.length > 0) await client.query(`truncate ${tables.map(quote).join(', ')} restart identity`)
    const counts = await insertAll(client, readBackup(file), new Set(tables))
    await raiseSequences(client, tables)
    await client.query('commit')
    isClean = true
    return { header, ...counts }
  } finally {
    client.release(!isClean)
  }
}

/** The tables of all plugins that ever were here, those that others refer to first. */
async function tablesOf(client: pg.PoolClient): Promise<string[]> {
  const { rows } = await client.query<{ name: string; needs: string[] }>(
    `select c.relname as name,
       array(select f.relname::text from pg_constraint k join pg_class f on f.oid = k.confrelid where k.conrelid = c.oid and k.contype = 'f' and f.oid <> c.oid) as needs
     from pg_class c
     where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and (c.relname like 'portico\\_%' or exists (
       select from ${migrationsTable} m where starts_with(c.relname, replace(m.plugin, '-', '_') || '_')))
     order by 1`,
  )
  const byName = new Map(rows.map((row) => [row.name, row]))
  const sorted = new Set<string>()
  const visit = (name: string, path: readonly string[]) => {
    if (path.includes(name)) return
    for (const other of byName.get(name)?.needs ?? []) visit(other, [...path, name])
    if (byName.has(name)) sorted.add(name)
  }
  for (const { name } of rows) visit(name, [])
  return [...sorted]
}

function refuseMisfit(header: BackupHeader, own: readonly AppliedMigration[]): void {
  const known = new Map(own.map(({ plugin, name, hash }) => [`${plugin}/${name}`, hash]))
  for (const { plugin, name, hash } of header.migrations) {
    const here = known.get(`${plugin}/${name}`)
    if (here === undefined)
      throw misfit(
        `it holds tables of "${plugin}" as the migration ${name} left them, which this gateway does not have. Load that plugin, or use a newer version`,
      )
    if (here !== hash) throw misfit(`the migration ${name} of "${plugin}" is another one here`)
  }
}

/** Rows go in as PostgreSQL wrote them, many in one statement. */
async function insertAll(client: pg.PoolClient, lines: AsyncIterable<BackupLine>, tables: ReadonlySet<string>): Promise<{ tables: number; rows: number }> {
  const counts = { tables: 0, rows: 0 }
  let table = ''
  let waiting: string[] = []
  let size = 0
  const flush = async () => {
    if (waiting.length === 0) return
    await client.query(`insert into ${quote(table)} overriding system value select * from json_populate_recordset(null::${quote(table)}, $1::json)`, [
      `[${waiting.join(',')}]`,
    ])
    counts.rows += waiting.length
    waiting = []
    size = 0
  }
  for await (const line of lines) {
    if ('table' in line) {
      await flush()
      table = line.table
      if (!tables.has(table)) throw misfit(`this gateway has no table ${table}`)
      counts.tables++
    } else {
      waiting.push(line.row)
      size += line.row.length
      if (size >= insertBytes) await flush()
    }
  }
  await flush()
  return counts
}

/** The next number of each identity column comes after the highest that is there. */
async function raiseSequences(client: pg.PoolClient, tables: readonly string[]): Promise<void> {
  for (const table of tables) {
    const { rows } = await client.query<{ name: string; sequence: string }>(
      `select attname as name, pg_get_serial_sequence($1, attname) as sequence from pg_attribute
       where attrelid = $1::regclass and attnum > 0 and not attisdropped and pg_get_serial_sequence($1, attname) is not null`,
      [quote(table)],
    )
    for (const { name, sequence } of rows)
      await client.query(`select setval($1, coalesce((select max(${quote(name)}) from ${quote(table)}), 0) + 1, false)`, [sequence])
  }
}

function misfit(why: string): GatewayError {
  return new GatewayError('invalid_request', `The backup does not fit: ${why}.`)
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
