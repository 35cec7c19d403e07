/** The queue: a function in the database finds whose turn it is and gives the run to this process. The rows of the runs are the queue, there is no other. */
import { and, eq, inArray, lt, ne, or, sql } from 'drizzle-orm'
import type { Database } from 'portico'
import { callOf } from 'portico/plugins/database'
import type { Run } from './contract.ts'
import { type HeldRun, LeaseLost, type Records } from './record.ts'
import { findRow, readEntries, toRun } from './rows.ts'
import { dependencies, runs } from './schema.ts'

/** What it works with. */
export interface QueueOptions {
  readonly db: Database
  readonly records: Records
  /** This process. */
  readonly owner: string
  /** ms. */
  readonly lease: number
}

/** The queue. */
export type Queue = ReturnType<typeof createQueue>

const callClaim = callOf('runs_claim')

/** Makes it. */
export function createQueue({ db, records, owner, lease }: QueueOptions) {
  /** A run that was given to this process; undefined = it was taken away meanwhile. */
  async function take(id: string, epoch: number): Promise<HeldRun | undefined> {
    const [found, before] = await records.durably(() => Promise.all([findRow(db, id), readEntries(db, id)]))
    if (found?.row.leaseEpoch !== epoch) return undefined
    const held = { run: toRun(found.row, found.key), epoch, entries: before, worked: found.row.worked }
    const isResumed = before.some(({ type }) => type === 'started')
    try {
      await records.write(held, [{ key: `started:${epoch}`, type: 'started', data: { epoch, isResumed } }])
      return held
    } catch (error) {
      if (error instanceof LeaseLost) return undefined
      throw error
    }
  }

  return {
    /** The next run, held by this process; undefined = there is none now. `children` = only those whose parent, or who, waits for them at work here. */
    async claim(children = false): Promise<HeldRun | undefined> {
      for (;;) {
        const { rows } = await db.execute<{ id: string; epoch: number }>(callClaim(owner, lease, children))
        const [given] = rows
        const held = given && (await take(given.id, given.epoch))
        if (held || !given) return held
      }
    },

    /** Renews the leases of these; gives those that are lost. */
    async renew(held: readonly HeldRun[]): Promise<HeldRun[]> {
      if (held.length === 0) return []
      const same = held.map(({ run, epoch }) => and(eq(runs.id, run.id), eq(runs.leaseEpoch, epoch)))
      const rows = await db
        .update(runs)
        .set({ leaseUntil: records.leased })
        .where(and(eq(runs.state, 'running'), or(...same)))
        .returning({ id: runs.id })
      const kept = new Set(rows.map(({ id }) => id))
      return held.filter(({ run }) => !kept.has(run.id))
    },

    /** Puts a run back, for whoever comes next. */
    async giveBack({ run, epoch }: HeldRun, worked: number): Promise<void> {
      await db
        .update(runs)
        .set({ state: 'queued', leaseOwner: null, leaseUntil: null, leaseEpoch: sql`${runs.leaseEpoch} + 1`, worked: sql`${runs.worked} + ${worked}` })
        .where(and(eq(runs.id, run.id), eq(runs.leaseEpoch, epoch), eq(runs.state, 'running')))
    },

    /**
     * Frees runs whose holder fell silent, also those given to this process in an answer that was lost; `all` = of every other process, which is known to be dead.
     * Queued ones go on where they were, those somebody waited for are given to be ended: that somebody is gone.
     */
    async sweep(all = false): Promise<Run['id'][]> {
      const silent = all ? undefined : lt(runs.leaseUntil, sql`clock_timestamp()`)
      const others = all ? or(sql`${runs.leaseOwner} is null`, ne(runs.leaseOwner, owner)) : undefined
      const dead = and(eq(runs.state, 'running'), others, silent)
      await db
        .update(runs)
        .set({ state: 'queued', leaseOwner: null, leaseUntil: null, leaseEpoch: sql`${runs.leaseEpoch} + 1` })
        .where(and(dead, eq(runs.isInteractive, false)))
      const waited = await db
        .select({ id: runs.id })
        .from(runs)
        .where(or(and(dead, eq(runs.isInteractive, true)), and(eq(runs.state, 'queued'), ne(runs.node, owner), silent)))
        .limit(1_000)
      return waited.map(({ id }) => id)
    },

    /** Queued runs that can never begin: what they depend on is gone, or ended otherwise than completed. */
    async hopeless(): Promise<{ id: string; dependsOn: string; state: string | null }[]> {
      const rows = await db
        .select({
          id: runs.id,
          dependsOn: dependencies.dependsOn,
          state: sql<string | null>`(select o.state from runs_runs o where o.id = ${dependencies.dependsOn})`,
        })
        .from(dependencies)
        .innerJoin(runs, eq(runs.id, dependencies.runId))
        .where(eq(runs.state, 'queued'))
        .limit(1_000)
      return rows.filter(({ state }) => state === null || state === 'failed' || state === 'cancelled' || state === 'rejected')
    },

    /** Says that somebody still waits here for these queued runs. */
    async keepWaiting(ids: readonly string[]): Promise<void> {
      if (ids.length === 0) return
      await db
        .update(runs)
        .set({ leaseUntil: records.leased })
        .where(and(inArray(runs.id, [...ids]), eq(runs.state, 'queued')))
    },
  }
}
