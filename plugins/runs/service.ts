/** The service `runs`: what callers may do with runs, each only with their own. */
import { and, asc, desc, eq, inArray, lt, type SQL, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, hasScope, isGatewayError, type Principal, type Transaction } from 'portico'
import type { Run, RunFilter, RunMode, RunSubmission, Runs } from './contract.ts'
import type { Endings } from './ending.ts'
import type { Executor } from './executor.ts'
import type { Hub } from './hub.ts'
import { maxEntries, ownRun, readEntries, toRun, toSession } from './rows.ts'
import { activeStates, isOver, runs, sessions as sessionTable } from './schema.ts'
import { activeRuns, type Sessions, unknownSession } from './sessions.ts'
import { steer } from './submit.ts'

/** What it works with. */
export interface ServiceOptions {
  readonly db: Database
  readonly clock: Clock
  readonly endings: Endings
  readonly executor: Executor
  readonly sessions: Sessions
  readonly hub: Hub
  /** Forgets what a run has left with others. */
  forget(tx: Transaction, runId: string): Promise<void>
  submit(submission: RunSubmission): Promise<Run>
  watch: Runs['watch']
  /** Tells other processes that a run was ended. */
  tell(runId: string): void
}

/** ms that a run here has to end by itself, with what there is of its answer. */
const grace = 1_000
/** Runs cancelled in one go. */
const batch = 500

/** Makes it. */
export function createService(options: ServiceOptions): Runs {
  const { db, clock, endings, executor, sessions, hub, forget, submit, watch, tell } = options

  async function cancelOne(id: string, reason: string): Promise<boolean> {
    const wasHere = await executor.cancel(id, reason, grace)
    const done = await endings.finishFromOutside(id, { state: 'cancelled', reason })
    if (done) {
      executor.drop(id)
      tell(id)
    }
    return done || wasHere
  }

  /** Of a run and all that came of it those that are not over, parents first: one would take the end of its child for an answer. */
  async function family(id: string): Promise<string[]> {
    const { rows } = await db.execute<{ id: string }>(sql`
      with recursive family as (
        select id, 0 as depth, state from runs_runs where id = ${id}
        union all select r.id, f.depth + 1, r.state from runs_runs r join family f on r.parent_id = f.id where f.depth < 10)
      select id from family where state in ('queued', 'running', 'awaiting_approval') order by depth`)
    return rows.map((row) => row.id)
  }

  async function cancelAllOf(ids: readonly string[], reason: string): Promise<string[]> {
    const cancelled: string[] = []
    // What a parent takes along by itself, when its tool hears of the end, was cancelled too.
    for (const id of ids) if ((await cancelOne(id, reason)) || (await isCancelled(id))) cancelled.push(id)
    return cancelled
  }

  async function isCancelled(id: string): Promise<boolean> {
    const [row] = await db.select({ state: runs.state }).from(runs).where(eq(runs.id, id))
    return row?.state === 'cancelled'
  }

  async function erase(id: string): Promise<void> {
    await db.transaction(async (tx) => {
      await forget(tx, id)
      await tx.execute(sql`delete from runs_messages where run_id = ${id}`)
      await tx.delete(runs).where(eq(runs.id, id))
    })
  }

  const self: Runs = {
    submit,

    async send(submission, mode: RunMode) {
      const { principal, sessionKey, input } = submission
      const session = await sessions.find(principal, sessionKey)
      const active = session ? await activeRuns(db, session.id) : []
      if (mode === 'interrupt') for (const { id } of active) await self.cancel(id, principal, { reason: 'Another message interrupted it.' })
      if (mode === 'steer' || mode === 'collect') {
        const target = active.find(({ state }) => (mode === 'steer' ? state !== 'queued' : state === 'queued'))
        const taken = target && (await db.transaction((tx) => hear(tx, target.id, principal, input.text)))
        if (taken) {
          hub.poke(taken.id)
          return taken
        }
      }
      return submit(submission)
    },

    get: (id, principal) => ownRun(db, id, principal),

    async list(principal, { state, agent, sessionKey, parentId, limit = 50, before }: RunFilter = {}) {
      const wanted: (SQL | undefined)[] = hasScope(principal, 'admin') ? [] : [eq(runs.principalId, principal.id)]
      if (state) wanted.push(eq(runs.state, state))
      if (agent) wanted.push(eq(runs.agent, agent))
      if (sessionKey) wanted.push(sql`(${sessionTable.key} = ${sessionKey} or ${sessionTable.id} = ${sessionKey})`)
      if (parentId) wanted.push(eq(runs.parentId, parentId))
      if (before) wanted.push(lt(runs.seq, sql`(select seq from runs_runs where id = ${before})`))
      const rows = await db
        .select({ run: runs, key: sessionTable.key })
        .from(runs)
        .innerJoin(sessionTable, eq(sessionTable.id, runs.sessionId))
        .where(and(...wanted))
        .orderBy(desc(runs.seq))
        .limit(limit)
      return rows.map(({ run, key }) => toRun(run, key))
    },

    async entries(id, principal, since = 0) {
      await ownRun(db, id, principal)
      return readEntries(db, id, since, maxEntries)
    },

    watch,

    async cancel(id, principal, { reason = 'It was cancelled.', cascade = true } = {}) {
      const run = await ownRun(db, id, principal)
      const ids = cascade ? await family(id) : isOver(run.state) ? [] : [id]
      return cancelAllOf(ids, reason)
    },

    async cancelAll(reason) {
      const cancelled: string[] = []
      for (;;) {
        const rows = await db
          .select({ id: runs.id })
          .from(runs)
          .where(inArray(runs.state, [...activeStates]))
          .orderBy(asc(runs.depth), asc(runs.seq))
          .limit(batch)
        const before = cancelled.length
        cancelled.push(
          ...(await cancelAllOf(
            rows.map(({ id }) => id),
            reason,
          )),
        )
        if (rows.length < batch || cancelled.length === before) return cancelled
      }
    },

    async retry(id, principal) {
      const run = await ownRun(db, id, principal)
      if (!isOver(run.state)) throw new GatewayError('conflict', `${id} is ${run.state}: it can be tried again when it is over; cancel it first.`)
      const { agent, ...override } = run.spec
      const { input, sessionId, priority, metadata } = run
      return submit({ principal: run.principal, agent, override, input, sessionKey: sessionId, priority, metadata: { ...metadata, retryOf: id } })
    },

    async delete(id, principal) {
      const run = await ownRun(db, id, principal)
      if (!isOver(run.state)) await self.cancel(id, principal, { reason: 'It was deleted.' })
      await erase(id)
      await endings.failDependents(id, 'deleted')
      hub.poke(id)
    },

    sessions: {
      async find(principal, key) {
        const row = await sessions.find(principal, key)
        if (!row) throw unknownSession(key)
        return toSession(row)
      },
      list: sessions.list,
      messages: sessions.messages,
      async remove(principal, key) {
        const row = await sessions.find(principal, key)
        if (!row || !(await removeSession(row.id, principal))) throw unknownSession(key)
        return toSession(row)
      },
      owners: sessions.owners,
      async forget(principalId) {
        const whose: Principal = { id: principalId, kind: 'user', scopes: [], groups: [], via: 'runs:forget' }
        let count = 0
        for (;;) {
          const some = await sessions.list(whose, batch)
          for (const { id } of some) if (await removeSession(id, whose)) count++
          if (some.length < batch) return count
        }
      },
    },
  }
  return self

  /** With its runs, which are cancelled first. False = somebody was faster. */
  async function removeSession(id: string, principal: Principal): Promise<boolean> {
    for (const run of await activeRuns(db, id))
      await self.cancel(run.id, principal, { reason: 'Its session was deleted.' }).catch((error: unknown) => {
        if (!isGatewayError(error) || error.code !== 'not_found') throw error
      })
    return (await db.transaction((tx) => sessions.remove(tx, [id]))) > 0
  }

  async function hear(tx: Transaction, id: string, principal: Principal, text: string): Promise<Run | undefined> {
    const run = await ownRun(tx, id, principal)
    if (!(await steer(tx, run, text, new Date(clock.now())))) return undefined
    await sessions.say(tx, run.sessionId, id, text)
    return run
  }
}
