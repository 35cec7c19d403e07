/** The queue: one statement finds whose turn it is, one gives the run to this process. The rows of the runs are the queue, there is no other. */
import { and, eq, inArray, lt, ne, or, sql } from 'drizzle-orm'
import type { Database, Transaction } from 'portico'
import type { Run } from './contract.ts'
import type { HeldRun, Records } from './record.ts'
import { readEntries, toRun } from './rows.ts'
import { dependencies, runs, sessions } from './schema.ts'

/** Taken by whoever claims, in the whole installation: caps and turns are exact. */
const claimLock = 0x72756e73

/** What it works with. */
export interface QueueOptions {
  readonly db: Database
  readonly records: Records
  /** This process. */
  readonly owner: string
}

/** The queue. */
export type Queue = ReturnType<typeof createQueue>

/** Makes it. */
export function createQueue({ db, records, owner }: QueueOptions) {
  /**
   * The run whose turn it is: the highest priority first, then the principal with the fewest at work, then the one that was served longest ago. Not before its
   * time, its dependencies and the runs before it in its session; not over its agent's cap. `children` = only runs whose parent waits for them at work.
   */
  const next = (children: boolean) => sql`
    with recursive waiting as (
      (select q.principal_id from runs_runs q where q.state = 'queued' order by q.principal_id limit 1)
      union all
      select (select q.principal_id from runs_runs q where q.state = 'queued' and q.principal_id > w.principal_id order by q.principal_id limit 1)
        from waiting w where w.principal_id is not null)
    select r.id from waiting w
    left join runs_shares s on s.principal_id = w.principal_id
    cross join lateral (
      select q.id, q.priority, q.seq from runs_runs q
      where q.principal_id = w.principal_id and q.state = 'queued' and q.start_at <= clock_timestamp()
        and (q.node is null or q.node = ${owner})
        ${children ? sql`and (q.depth > 0 or q.node = ${owner})` : sql``}
        and not exists (
          select 1 from runs_runs o
          where o.session_id = q.session_id and o.seq < q.seq and o.state in ('queued', 'running', 'awaiting_approval'))
        and not exists (
          select 1 from runs_dependencies d left join runs_runs o on o.id = d.depends_on
          where d.run_id = q.id and o.state is distinct from 'completed')
        and (q.max_concurrent is null or q.max_concurrent > (select count(*) from runs_runs a where a.agent = q.agent and a.state = 'running'))
      order by q.priority desc, q.seq limit 1) r
    order by r.priority desc, (select count(*) from runs_runs b where b.principal_id = w.principal_id and b.state = 'running'), s.served nulls first, r.seq
    limit 1`

  return {
    /** The next run, held by this process; undefined = there is none now. */
    claim: (children = false): Promise<HeldRun | undefined> =>
      db.transaction(async (tx) => {
        await tx.execute(sql`select pg_advisory_xact_lock(${claimLock})`)
        const { rows } = await tx.execute<{ id: string }>(next(children))
        const id = rows[0]?.id
        if (id === undefined) return undefined
        const [row] = await tx
          .update(runs)
          .set({
            ...{ state: 'running', leaseOwner: owner, leaseUntil: records.leased, leaseEpoch: sql`${runs.leaseEpoch} + 1`, lastSeq: sql`${runs.lastSeq} + 1` },
            startedAt: sql`coalesce(${runs.startedAt}, clock_timestamp())`,
          })
          .where(and(eq(runs.id, id), eq(runs.state, 'queued')))
          .returning()
        if (!row) return undefined
        await tx.execute(sql`insert into runs_shares (principal_id, served) values (${row.principalId}, (select coalesce(max(served), 0) + 1 from runs_shares))
          on conflict (principal_id) do update set served = excluded.served`)
        const [session] = await tx.select({ key: sessions.key }).from(sessions).where(eq(sessions.id, row.sessionId))
        const run = toRun(row, session?.key ?? row.sessionId)
        const before = await readEntries(tx, id)
        const data = { epoch: row.leaseEpoch, isResumed: before.some(({ type }) => type === 'started') }
        if (!data.isResumed) await moveToEnd(tx, id)
        const started = await records.insert(tx, run, [{ key: `started:${row.leaseEpoch}`, type: 'started', data }], row.lastSeq)
        return { run, epoch: row.leaseEpoch, entries: [...before, ...started], worked: row.worked }
      }),

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
     * Frees runs whose holder fell silent, of this process never; `all` = of every other process, which is known to be dead. Queued ones go on where they were,
     * those somebody waited for are given to be ended: that somebody is gone.
     */
    async sweep(all = false): Promise<Run['id'][]> {
      const silent = all ? undefined : lt(runs.leaseUntil, sql`clock_timestamp()`)
      const others = or(sql`${runs.leaseOwner} is null`, ne(runs.leaseOwner, owner))
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

/** What was said to a run that waited stands behind the answers it waited for. */
async function moveToEnd(tx: Transaction, runId: string): Promise<void> {
  await tx.execute(sql`
    with moved as (delete from runs_messages where run_id = ${runId} returning *)
    insert into runs_messages (session_id, run_id, role, text, images, model, finish_reason, created_at)
      select session_id, run_id, role, text, images, model, finish_reason, created_at from moved order by id`)
}
