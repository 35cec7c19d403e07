/** How runs end: state, answer, what hangs on it, and its event, all in one transaction. */
import { and, eq, inArray, sql } from 'drizzle-orm'
import type { Clock, Database, Transaction } from 'portico'
import type { Approvals } from 'portico/plugins/approvals'
import { storable } from 'portico/plugins/database'
import type { Workspace } from 'portico/plugins/workspace'
import type { Run, RunError, RunListener } from './contract.ts'
import type { Fact, HeldRun, Records } from './record.ts'
import { findRun, toRun } from './rows.ts'
import { activeStates, dependencies, messages, runs, sessions } from './schema.ts'
import { dropOldestMessages } from './sessions.ts'

/** What an end is. `text`: what there is of the answer. */
export type Ending = { readonly text?: string; readonly model?: string } & (
  | { readonly state: 'completed'; readonly finishReason: string }
  | { readonly state: 'failed'; readonly error: RunError }
  | { readonly state: 'cancelled' | 'rejected'; readonly reason: string }
)

/** What it works with. */
export interface EndingsOptions {
  readonly db: Database
  readonly clock: Clock
  readonly records: Records
  readonly approvals: Approvals
  readonly workspace: Workspace
  listeners(): readonly RunListener[]
  /** Messages that a session keeps. */
  readonly maxMessages: number
  /** After the commit of an end: others may go on now. */
  onEnd(runId: string): void
}

/** Makes what ends runs. */
export type Endings = ReturnType<typeof createEndings>

/** Makes it. */
export function createEndings({ db, clock, records, approvals, workspace, listeners, maxMessages, onEnd }: EndingsOptions) {
  /** What an end takes with it, within the transaction in which the run's row is written. */
  async function settle(tx: Transaction, run: Run, ending: Ending): Promise<void> {
    const now = new Date(clock.now())
    if (ending.state !== 'completed') await workspace.discard(run.id, tx)
    const { text, model = run.model } = ending
    if (text !== undefined || ending.state === 'completed') {
      const finishReason = ending.state === 'completed' ? ending.finishReason : ending.state === 'cancelled' ? 'cancelled' : 'error'
      await tx
        .insert(messages)
        .values({ sessionId: run.sessionId, runId: run.id, role: 'assistant', text: storable(text ?? ''), model, finishReason, createdAt: now })
      await dropOldestMessages(tx, run.sessionId, maxMessages)
    }
    await tx.update(sessions).set({ updatedAt: now }).where(eq(sessions.id, run.sessionId))
    if (run.parentId !== null) await wake(tx, run.parentId)
    const told = listeners()
    const over = told.length > 0 ? await findRun(tx, run.id) : undefined
    if (over) for (const listener of told) await listener.ended(over, tx)
  }

  const columnsOf = (ending: Ending) => ({
    state: ending.state,
    endedAt: new Date(clock.now()),
    ...{ leaseOwner: null, leaseUntil: null },
    ...(ending.model === undefined ? {} : { model: ending.model }),
    ...(ending.text === undefined && ending.state !== 'completed' ? {} : { result: storable(ending.text ?? '') }),
    ...(ending.state === 'completed' ? { finishReason: ending.finishReason } : {}),
    ...(ending.state === 'failed' ? { error: { ...ending.error, message: storable(ending.error.message) } } : {}),
  })

  const factOf = (run: Run, ending: Ending): Fact => {
    const { inputTokens, outputTokens } = run.usage
    const data =
      ending.state === 'completed'
        ? { finishReason: ending.finishReason, inputTokens, outputTokens }
        : ending.state === 'failed'
          ? { error: ending.error }
          : { reason: ending.reason }
    return { key: 'end', type: ending.state, data }
  }

  const self = {
    /** Ends a run that is held here; false = it is not completed, because it was sent a message that it has not heard. @throws LeaseLost */
    async finish(held: HeldRun, ending: Ending, columns: Record<string, unknown> = {}): Promise<boolean> {
      const isDone = await records.write(held, [factOf(held.run, ending)], {
        columns: { ...columnsOf(ending), ...columns },
        before: (tx) => approvals.withdraw(tx, held.run.id),
        after: (tx) => settle(tx, held.run, ending),
        ifQuiet: ending.state === 'completed',
      })
      if (isDone) await self.fellThrough(held.run.id, ending)
      return isDone
    },

    /** Ends a run, whoever holds it: that one finds that it has lost it. False = it was over already. */
    async finishFromOutside(runId: string, ending: Ending): Promise<boolean> {
      const done = await db.transaction(async (tx) => {
        await approvals.withdraw(tx, runId)
        const [row] = await tx
          .update(runs)
          .set({ ...columnsOf(ending), leaseEpoch: sql`${runs.leaseEpoch} + 1`, lastSeq: sql`${runs.lastSeq} + 1` })
          .where(and(eq(runs.id, runId), inArray(runs.state, [...activeStates])))
          .returning()
        if (!row) return false
        const [session] = await tx.select({ key: sessions.key }).from(sessions).where(eq(sessions.id, row.sessionId))
        const run = toRun(row, session?.key ?? row.sessionId)
        await records.insert(tx, run, [factOf(run, ending)], row.lastSeq)
        await settle(tx, run, ending)
        return true
      })
      if (done) await self.fellThrough(runId, ending)
      return done
    },

    /** Tells who waits; runs that can never begin any more, because they needed this one completed, fail. */
    async fellThrough(runId: string, ending: Ending): Promise<void> {
      onEnd(runId)
      if (ending.state !== 'completed') await self.failDependents(runId, ending.state)
    },

    /** Fails the runs that wait for one that did not complete. */
    async failDependents(runId: string, why: string): Promise<void> {
      const dependents = await db
        .select({ id: dependencies.runId })
        .from(dependencies)
        .innerJoin(runs, eq(runs.id, dependencies.runId))
        .where(and(eq(dependencies.dependsOn, runId), eq(runs.state, 'queued')))
      for (const { id } of dependents)
        await self.finishFromOutside(id, {
          state: 'failed',
          error: { code: 'dependency_failed', message: `${runId}, which it depends on, was ${why}: nothing was begun.` },
        })
    },
  }
  return self
}

/** A run that waits goes on: an approval was decided, or a child ended. */
export async function wake(tx: Transaction, runId: string): Promise<void> {
  // Locked first, so that a run which is just about to wait sees what was decided.
  await tx.select({ id: runs.id }).from(runs).where(eq(runs.id, runId)).for('update')
  await tx
    .update(runs)
    .set({ state: 'queued' })
    .where(and(eq(runs.id, runId), eq(runs.state, 'awaiting_approval')))
}
