/** Cursors of durable subscriptions in the database: who holds each, until when. The functions it calls are in `migrations/`. */
import type pg from 'pg'

/** Names a subscription's row. */
export interface CursorKey {
  readonly owner: string
  readonly name: string
  readonly type: string
}

/** A subscription's wish for its row. `start`: where it begins the first time; null = at the oldest event. */
export interface CursorWish {
  readonly key: CursorKey
  /** A UUID of its own: not even two subscriptions of one process share a row. */
  readonly holder: string
  readonly start: bigint | null
}

/** A held row as it is given back. */
export interface CursorHold {
  readonly holder: string
  readonly epoch: bigint
  readonly position: bigint
  /** Go on holding it; otherwise let go. */
  readonly keep: boolean
}

/** A row as it was taken. */
export interface CursorTaken {
  readonly position: bigint
  readonly epoch: bigint
  /** The event that was tried last without success; null = none yet. */
  readonly failing: bigint | null
  /** How often it was tried. */
  readonly attempts: number
}

/** Takes the rows that nobody holds any more. No two wishes may name one row. Gives the taken ones by holder. */
export async function takeCursors(pool: pg.Pool, wishes: readonly CursorWish[], leaseMs: number): Promise<Map<string, CursorTaken>> {
  const keys = (['owner', 'name', 'type'] as const).map((part) => wishes.map(({ key }) => key[part]))
  const values = [...keys, wishes.map(({ start }) => start?.toString() ?? null), wishes.map(({ holder }) => holder), leaseMs]
  const { rows } = await pool.query('select holder, position, epoch, failing, attempts from event_log_take($1, $2, $3, $4, $5, $6)', values)
  const taken = ({ position, epoch, failing, attempts }: Record<string, string | null>): CursorTaken => ({
    ...{ position: BigInt(position as string), epoch: BigInt(epoch as string) },
    ...{ failing: failing == null ? null : BigInt(failing), attempts: Number(attempts) },
  })
  return new Map(rows.map((row) => [row.holder, taken(row)]))
}

/** Notes that an event was tried so often without success, so that a successor counts on; nothing when the row is held by another by now. */
export async function noteFailure(pool: pg.Pool, { holder, epoch }: Pick<CursorHold, 'holder' | 'epoch'>, event: bigint, attempts: number): Promise<void> {
  const values = [String(event), attempts, holder, String(epoch)]
  await pool.query('update event_log_cursors set failing = $1, attempts = $2 where holder = $3 and epoch = $4', values)
}

/** Saves positions and prolongs, or lets go. Gives the holders that still held their rows. */
export async function holdCursors(pool: pg.Pool, holds: readonly CursorHold[], leaseMs: number): Promise<Set<string>> {
  const values = [
    holds.map(({ holder }) => holder),
    holds.map(({ epoch }) => String(epoch)),
    holds.map(({ position }) => String(position)),
    holds.map(({ keep }) => keep),
    leaseMs,
  ]
  const { rows } = await pool.query('select event_log_hold($1, $2, $3, $4, $5) as holder', values)
  return new Set(rows.map(({ holder }) => holder))
}
