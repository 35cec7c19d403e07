/** What the log asks of the database; the functions it calls are in `migrations/`. */
import type pg from 'pg'
import type { Transaction } from 'portico'
import { statement } from 'portico/plugins/database'
import type { LogFilter, LoggedEvent, LogPage } from './contract.ts'
import { type LogRow, toLogged } from './logged.ts'
import type { EventRecord } from './record.ts'

const appendRows = 500
const appendBytes = 1024 * 1024
const outboxColumns = ['uid', 'type', 'source', 'subject', 'principal', 'trace', 'time', 'data'] as const

/** Writes rows to the outbox in their order, in one statement. */
export async function insertOutbox(pool: pg.Pool, rows: readonly EventRecord[]): Promise<void> {
  await pool.query(
    `insert into event_log_outbox (${outboxColumns}) select ${outboxColumns}
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[]) with ordinality as u (${outboxColumns}, n) order by n`,
    outboxColumns.map((key) => rows.map((row) => row[key])),
  )
}

const insertOne = `insert into event_log_outbox (${outboxColumns}) values (${outboxColumns.map((_, at) => `$${at + 1}`)})`

/** Writes one row to the outbox, in the transaction. */
export async function insertOutboxIn(tx: Transaction, row: EventRecord): Promise<void> {
  const { uid, type, source, subject, principal, trace, time, data } = row
  await tx.execute(statement(insertOne, [uid, type, source, subject, principal, trace, time, data]))
}

/** Moves the oldest rows of the outbox to the log: `last` is the last id before them, `more` says that the outbox may hold more. */
export async function appendOutbox(pool: pg.Pool): Promise<{ last: bigint; events: readonly LoggedEvent[]; more: boolean }> {
  const { rows } = await pool.query<LogRow & { last: string }>('select * from event_log_append($1, $2)', [appendRows, appendBytes])
  const events = rows.map(toLogged)
  const size = events.reduce((sum, { json }) => sum + json.length, 0)
  return { last: BigInt(rows[0]?.last ?? 0), events, more: events.length === appendRows || size > appendBytes / 4 }
}

/** A page of the events after `position`, oldest first. `end`: what the page has reached when the log ends with it, taken before the page is read. */
export async function readLog(pool: pg.Pool, position: bigint, { types, principal, end }: LogFilter & { readonly end: bigint }): Promise<LogPage> {
  const { rows } = await pool.query('select * from event_log_page($1, $2, $3)', [String(position), types, principal])
  const { id, reached, trimmed } = rows[0]
  return { events: id === null ? [] : rows.map(toLogged), reached: reached === null ? end : BigInt(reached), trimmed: BigInt(trimmed) }
}

/** The newest events of the last 50,000, newest first. */
export async function readNewest(pool: pg.Pool, limit: number, { types, principal }: LogFilter): Promise<readonly LoggedEvent[]> {
  const { rows } = await pool.query<LogRow>('select * from event_log_newest($1, $2, $3)', [limit, types, principal])
  return rows.map(toLogged)
}

/** The newest events up to `last`, oldest first: at most so many and, but for one, so many characters. */
export async function readTail(pool: pg.Pool, last: bigint, most: number, size: number): Promise<readonly LoggedEvent[]> {
  const { rows: sizes } = await pool.query<{ id: string; size: number }>(
    'select id, octet_length(data) as size from event_log_events where id <= $1 order by id desc limit $2',
    [String(last), most],
  )
  let [first, sum]: [string | undefined, number] = [undefined, 0]
  for (const row of sizes) {
    sum += row.size
    if (sum > size && first !== undefined) break
    first = row.id
  }
  if (first === undefined) return []
  const { rows } = await pool.query<LogRow>('select * from event_log_events where id between $1 and $2 order by id', [first, String(last)])
  return rows.map(toLogged)
}

/** The last id ever given (0 = none), and whether the outbox holds anything. */
export async function readHead(pool: pg.Pool): Promise<{ head: bigint; waiting: boolean }> {
  const head = 'coalesce((select max(id) from event_log_events), (select trimmed from event_log_state))'
  const { rows } = await pool.query(`select ${head} as head, exists (select from event_log_outbox) as waiting`)
  return { head: BigInt(rows[0].head), waiting: rows[0].waiting }
}
