/** The SQL of durable subscriptions: their cursors, who holds each, and dead letters. */
import type pg from 'pg'

/** Names a subscription's row. */
export interface CursorKey {
  readonly owner: string
  readonly name: string
  readonly type: string
}

/** A subscription that wants its row. `position`: where it starts the first time; null = at the oldest event. */
export interface CursorWish extends CursorKey {
  /** A UUID of its own: not even two subscriptions of one process share a row. */
  readonly holder: string
  readonly position: bigint | null
}

/** A row as it is given back. */
export interface HeldCursor extends CursorWish {
  readonly position: bigint
  readonly epoch: bigint
  /** Keep holding it; otherwise let go. */
  readonly keep: boolean
}

const columns = <T extends object>(rows: readonly T[], keys: readonly (keyof T)[]) =>
  keys.map((key) => rows.map((row) => (typeof row[key] === 'bigint' ? String(row[key]) : row[key])))

/** Takes the rows that nobody holds any more. No two wishes may name one row. */
export async function takeCursors(pool: pg.Pool, wishes: readonly CursorWish[], leaseMs: number): Promise<Map<string, { position: bigint; epoch: bigint }>> {
  const { rows } = await pool.query(
    `insert into portico_cursors as c (owner, name, type, position, holder, held_until, epoch)
     select owner, name, type, coalesce(position, (select trimmed from portico_log)), holder, clock_timestamp() + $6 * interval '1 ms', 1
     from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::uuid[]) as w (owner, name, type, position, holder) order by owner, name, type
     on conflict (owner, name, type) do update set holder = excluded.holder, held_until = excluded.held_until, epoch = c.epoch + 1
     where c.holder is null or c.holder = excluded.holder or c.held_until < clock_timestamp()
     returning holder, position, epoch`,
    [...columns(wishes, ['owner', 'name', 'type', 'position', 'holder']), leaseMs],
  )
  return new Map(rows.map((row) => [row.holder, { position: BigInt(row.position), epoch: BigInt(row.epoch) }]))
}

/** Saves positions and prolongs, or lets go. Returns the holders that still held their rows: the epoch fences the others off. */
export async function saveCursors(pool: pg.Pool, held: readonly HeldCursor[], leaseMs: number): Promise<Set<string>> {
  const { rows } = await pool.query(
    `update portico_cursors c set position = h.position, holder = case when h.keep then c.holder end, held_until = clock_timestamp() + $7 * interval '1 ms'
     from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[], $8::uuid[]) as h (owner, name, type, position, epoch, keep, holder)
     where c.owner = h.owner and c.name = h.name and c.type = h.type and c.epoch = h.epoch and c.holder = h.holder returning h.holder`,
    [...columns(held, ['owner', 'name', 'type', 'position', 'epoch', 'keep']), leaseMs, held.map(({ holder }) => holder)],
  )
  return new Set(rows.map(({ holder }) => holder))
}

/** For a store that only one process can have: whoever held the rows is dead. */
export async function freeCursors(pool: pg.Pool): Promise<void> {
  await pool.query('update portico_cursors set holder = null where holder is not null')
}

/** Sets an event aside. */
export async function writeDeadLetter(
  pool: pg.Pool,
  key: CursorKey,
  letter: { event: bigint; uid: string; data: string; attempts: number; error: string },
): Promise<void> {
  await pool.query(
    `insert into portico_dead_letters (owner, name, type, event, uid, data, attempts, error) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing`,
    [key.owner, key.name, key.type, String(letter.event), letter.uid, letter.data, letter.attempts, letter.error],
  )
}
