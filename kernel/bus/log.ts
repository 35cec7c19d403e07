/** The SQL of outbox and log. */
import { sql } from 'drizzle-orm'
import type pg from 'pg'
import type { Transaction } from '../contract/plugin.ts'
import { Delivery, type LogRow } from './delivery.ts'

/** A row for the outbox. */
export interface OutboxRow {
  readonly uid: string
  readonly type: string
  readonly source: string
  readonly subject: string | undefined
  readonly principal: string | undefined
  readonly trace: string | undefined
  readonly time: string
  /** JSON. */
  readonly data: string
}

/** Which events of the log. */
export interface LogFilter {
  /** Null = every type. */
  readonly types: readonly string[] | null
  /** Leaves out what belongs to another principal; null = nobody is asking. */
  readonly principal: string | null
}

/** A page of the log. */
export interface LogPage {
  readonly events: readonly (Delivery & { readonly id: bigint })[]
  /** Everything up to this id was looked at. Equal to the asked one at the end of the log. */
  readonly reached: bigint
  /** The highest id that retention has removed. */
  readonly trimmed: bigint
}

const columns = 'id, uid, type, source, subject, principal, trace, time, data'
const matches = '($2::text[] is null or type = any($2)) and ($3::text is null or principal is null or principal = $3)'
const everything: LogFilter = { types: null, principal: null }
/** A page holds at most so many events and, but for one event, so many bytes of data; it looks at most at so many rows. */
const pageRows = 500
const pageBytes = 256 * 1024
/** An append takes at most so many rows and bytes. */
const appendRows = 500
const appendBytes = 1024 * 1024
const scanRows = 5_000
/** `readNewest` looks at most at so many rows. */
const newestRows = 50_000
/** Removed by one statement. */
const trimRows = 5_000
const maxDeadLetters = 10_000

const toDelivery = (row: LogRow) => Delivery.logged(row) as Delivery & { readonly id: bigint }

/** Writes rows to the outbox in their order, in one statement. */
export async function insertOutbox(pool: pg.Pool, rows: readonly OutboxRow[]): Promise<void> {
  const column = (key: keyof OutboxRow) => rows.map((row) => row[key] ?? null)
  await pool.query(
    `insert into portico_outbox (uid, type, source, subject, principal, trace, time, data)
     select uid, type, source, subject, principal, trace, time, data
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
       with ordinality as u (uid, type, source, subject, principal, trace, time, data, n) order by n`,
    [column('uid'), column('type'), column('source'), column('subject'), column('principal'), column('trace'), column('time'), column('data')],
  )
}

/** Writes one row to the outbox, in the transaction. */
export async function insertOutboxIn(tx: Transaction, row: OutboxRow): Promise<void> {
  const { uid, type, source, subject = null, principal = null, trace = null, time, data } = row
  await tx.execute(
    sql`insert into portico_outbox (uid, type, source, subject, principal, trace, time, data)
        values (${uid}, ${type}, ${source}, ${subject}, ${principal}, ${trace}, ${time}, ${data})`,
  )
}

/** Moves the oldest rows of the outbox to the log: `last` is the last id before them, `more` says that the outbox may hold more. */
export async function appendOutbox(pool: pg.Pool): Promise<{ last: bigint; events: LogPage['events']; more: boolean }> {
  const { rows } = await pool.query<LogRow & { last: string }>('select * from portico_append($1, $2)', [appendRows, appendBytes])
  const events = rows.map(toDelivery)
  const size = events.reduce((sum, event) => sum + event.size, 0)
  return { last: BigInt(rows[0]?.last ?? 0), events, more: events.length === appendRows || size > appendBytes / 4 }
}

/** The events after `position`, oldest first. */
export async function readLog(pool: pg.Pool, position: bigint, filter: LogFilter = everything): Promise<LogPage> {
  const { rows } = await pool.query(
    `with scanned as (select * from portico_events where id > $1 order by id limit ${scanRows}),
       matching as (select *, sum(octet_length(data)) over (order by id) - octet_length(data) as ahead from scanned where ${matches} order by id limit ${pageRows + 1}),
       page as (select * from matching where ahead < ${pageBytes} order by id limit ${pageRows})
     select (select trimmed from portico_log) as trimmed, (select max(id) from scanned) as scanned, (select count(*) from matching)::int as matching, page.*
     from (select 1) as one left join page on true order by page.id`,
    [String(position), filter.types, filter.principal],
  )
  const events = rows[0]?.id === null ? [] : rows.map(toDelivery)
  const whole = events.length === rows[0]?.matching
  return { events, trimmed: BigInt(rows[0]?.trimmed ?? 0), reached: whole ? BigInt(rows[0]?.scanned ?? position) : (events.at(-1)?.id ?? position) }
}

/** The newest events, newest first; it looks at the newest 50,000 only. */
export async function readNewest(pool: pg.Pool, limit: number, filter: LogFilter = everything): Promise<LogPage['events']> {
  const { rows } = await pool.query<LogRow>(
    `select ${columns} from (
       select *, sum(octet_length(data)) over (order by id desc) - octet_length(data) as ahead from (
         select * from (select * from portico_events order by id desc limit ${newestRows}) as newest where ${matches} order by id desc limit $1) as found
     ) as page where ahead < ${appendBytes} order by id desc`,
    [limit, filter.types, filter.principal],
  )
  return rows.map(toDelivery)
}

/** The last id ever given (0 = none) and whether the outbox holds anything. */
export async function readHead(pool: pg.Pool): Promise<{ head: bigint; trimmed: bigint; waiting: boolean }> {
  const { rows } = await pool.query(
    'select (select max(id) from portico_events) as head, (select trimmed from portico_log) as trimmed, exists (select from portico_outbox) as waiting',
  )
  const trimmed = BigInt(rows[0]?.trimmed ?? 0)
  return { head: BigInt(rows[0]?.head ?? trimmed), trimmed, waiting: rows[0]?.waiting === true }
}

/** Removes the oldest events, in batches: those older than `maxAgeMs` by the database's clock and, with `count`, those beyond `maxRows`. The newest one stays. Returns how many. */
export async function trimLog(pool: pg.Pool, options: { maxAgeMs: number; maxRows: number; count: boolean; signal: AbortSignal }): Promise<number> {
  const { rows } = await pool.query(
    `select greatest(
       ((extract(epoch from clock_timestamp()) * 1000)::bigint - $1::bigint) * 1000000,
       case when $3::boolean then (select id from portico_events order by id desc offset $2 limit 1) end)::text as bound`,
    [options.maxAgeMs, options.maxRows, options.count],
  )
  for (let total = 0; ; ) {
    const { rowCount } = await pool.query(
      `with gone as (
         delete from portico_events where id in (
           select id from portico_events where id <= $1 and id < (select max(id) from portico_events) order by id limit ${trimRows}) returning id
       ), noted as (
         update portico_log set trimmed = greatest(trimmed, (select max(id) from gone)) where exists (select from gone)
       ) select id from gone`,
      [rows[0]?.bound],
    )
    total += rowCount ?? 0
    if ((rowCount ?? 0) < trimRows || options.signal.aborted) return total
  }
}

/** Keeps the newest dead letters. */
export async function trimDeadLetters(pool: pg.Pool): Promise<void> {
  await pool.query(`delete from portico_dead_letters where at < (select at from portico_dead_letters order by at desc offset ${maxDeadLetters} limit 1)`)
}
