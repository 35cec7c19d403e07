/** What the bus asks of the database; the functions it calls are in `migrations/`. */
import { sql } from 'drizzle-orm'
import type pg from 'pg'
import type { Transaction } from '../contract/plugin.ts'
import { Delivery, type LogRow } from './delivery.ts'

/** A row for the outbox. */
export type OutboxRow = Omit<LogRow, 'id' | 'time'> & { readonly time: string }

/** A durable event. */
export type Logged = Delivery & { readonly id: bigint }

/** Which events of the log. */
export interface LogFilter {
  /** Null = every type. */
  readonly types: readonly string[] | null
  /** Leaves out what belongs to another principal; null = nobody is asking. */
  readonly principal: string | null
}

/** A page of the log. */
export interface LogPage {
  readonly events: readonly Logged[]
  /** Everything up to this id was looked at; null at the end of the log. */
  readonly reached: bigint | null
  /** The highest id that retention has removed. */
  readonly trimmed: bigint
}

const everything: LogFilter = { types: null, principal: null }
const appendRows = 500
const appendBytes = 1024 * 1024
const outboxColumns = ['uid', 'type', 'source', 'subject', 'principal', 'trace', 'time', 'data'] as const
const toLogged = (row: LogRow) => Delivery.logged(row) as Logged

/** Writes rows to the outbox in their order, in one statement. */
export async function insertOutbox(pool: pg.Pool, rows: readonly OutboxRow[]): Promise<void> {
  await pool.query(
    `insert into portico_outbox (${outboxColumns}) select ${outboxColumns}
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[]) with ordinality as u (${outboxColumns}, n) order by n`,
    outboxColumns.map((key) => rows.map((row) => row[key])),
  )
}

/** Writes one row to the outbox, in the transaction. */
export async function insertOutboxIn(tx: Transaction, row: OutboxRow): Promise<void> {
  const values = sql.join(
    outboxColumns.map((key) => sql`${row[key]}`),
    sql`, `,
  )
  await tx.execute(sql`insert into portico_outbox (${sql.raw(String(outboxColumns))}) values (${values})`)
}

/** Moves the oldest rows of the outbox to the log: `last` is the last id before them, `more` says that the outbox may hold more. */
export async function appendOutbox(pool: pg.Pool): Promise<{ last: bigint; events: readonly Logged[]; more: boolean }> {
  const { rows } = await pool.query<LogRow & { last: string }>('select * from portico_append($1, $2)', [appendRows, appendBytes])
  const events = rows.map(toLogged)
  const size = events.reduce((sum, event) => sum + event.size, 0)
  return { last: BigInt(rows[0]?.last ?? 0), events, more: events.length === appendRows || size > appendBytes / 4 }
}

/** A page of the events after `position`, oldest first. */
export async function readLog(pool: pg.Pool, position: bigint, { types, principal } = everything): Promise<LogPage> {
  const { rows } = await pool.query('select * from portico_page($1, $2, $3)', [String(position), types, principal])
  const { id, reached, trimmed } = rows[0]
  return { events: id === null ? [] : rows.map(toLogged), reached: reached === null ? null : BigInt(reached), trimmed: BigInt(trimmed) }
}

/** The newest events of the last 50,000, newest first. */
export async function readNewest(pool: pg.Pool, limit: number, { types, principal } = everything): Promise<readonly Logged[]> {
  const { rows } = await pool.query<LogRow>('select * from portico_newest($1, $2, $3)', [limit, types, principal])
  return rows.map(toLogged)
}

/** The last id ever given (0 = none), and whether the outbox holds anything. */
export async function readHead(pool: pg.Pool): Promise<{ head: bigint; waiting: boolean }> {
  const head = 'coalesce((select max(id) from portico_events), (select trimmed from portico_log))'
  const { rows } = await pool.query(`select ${head} as head, exists (select from portico_outbox) as waiting`)
  return { head: BigInt(rows[0].head), waiting: rows[0].waiting }
}
