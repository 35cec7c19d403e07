/** Forgets what is old: runs after their retention, sessions that were idle for too long, turns of principals who have no runs. In small pieces. */
import { and, inArray, isNotNull, lt, sql } from 'drizzle-orm'
import type { Clock, Database, Logger, Transaction } from 'portico'
import { sessionExpired } from './contract.ts'
import type { PublishRunEvent } from './record.ts'
import { runs, sessions } from './schema.ts'
import type { Sessions } from './sessions.ts'

/** What it works with. */
export interface HousekeepingOptions {
  readonly db: Database
  readonly clock: Clock
  readonly log: Logger
  readonly sessions: Sessions
  readonly publish: PublishRunEvent
  /** ms. */
  readonly retention: number
  readonly signal: AbortSignal
  forget(tx: Transaction, runId: string): Promise<void>
  isAway(error: unknown): boolean
}

const everyMs = 60_000
const batch = 100

/** Goes on until the signal aborts. */
export async function keepHouse(options: HousekeepingOptions): Promise<void> {
  const { clock, log, signal, isAway } = options
  while (!signal.aborted) {
    try {
      await clock.sleep(everyMs, signal)
      while ((await sweepOnce(options)) && !signal.aborted);
    } catch (error) {
      if (!signal.aborted && !isAway(error)) log.error('Old runs could not be forgotten', { error })
    }
  }
}

/** One piece of each; true = there may be more. */
export async function sweepOnce({ db, clock, sessions: life, publish, retention, forget }: HousekeepingOptions): Promise<boolean> {
  const now = clock.now()
  const expired = await db.transaction(async (tx) => {
    const idle = sql`${sessions.updatedAt} < ${new Date(now).toISOString()}::timestamptz - ${sessions.ttl} * interval '1 millisecond'`
    const free = sql`not exists (select 1 from runs_runs r where r.session_id = ${sessions.id} and r.ended_at is null)`
    const rows = await tx
      .select()
      .from(sessions)
      .where(and(isNotNull(sessions.ttl), idle, free))
      .limit(batch)
      .for('update', { skipLocked: true })
    for (const { key, agent, principal } of rows) await publish(sessionExpired, { sessionKey: key, agent }, { tx, principal, subject: key })
    await life.remove(
      tx,
      rows.map(({ id }) => id),
    )
    return rows.length
  })
  const forgotten = await db.transaction(async (tx) => {
    const rows = await tx
      .select({ id: runs.id })
      .from(runs)
      .where(and(isNotNull(runs.endedAt), lt(runs.endedAt, new Date(now - retention))))
      .limit(batch)
      .for('update', { skipLocked: true })
    for (const { id } of rows) await forget(tx, id)
    const ids = rows.map(({ id }) => id)
    if (ids.length > 0) await tx.delete(runs).where(inArray(runs.id, ids))
    return ids.length
  })
  await db.execute(sql`
    delete from runs_shares s where not exists (select 1 from runs_runs r where r.principal_id = s.principal_id and r.ended_at is null)
      and s.served < (select coalesce(max(served), 0) - 1000 from runs_shares)`)
  return expired === batch || forgotten === batch
}
