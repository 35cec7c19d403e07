/** How runs end: state, answer, what hangs on it, and its event, all in one transaction. */
import { and, eq } from 'drizzle-orm'
import type { Clock, Database, Transaction } from 'portico'
import type { Approvals } from 'portico/plugins/approvals'
import { callOf, storable } from 'portico/plugins/database'
import type { Workspace } from 'portico/plugins/workspace'
import type { Run, RunError, RunListener } from './contract.ts'
import { changed, type Fact, type HeldRun, type LastWord, LeaseLost, type Records, type RunChange } from './record.ts'
import { findRun } from './rows.ts'
import { dependencies, isOver, runs } from './schema.ts'

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
  const changeOf = (ending: Ending): RunChange => ({
    ...{ state: ending.state, endedAt: new Date(clock.now()), model: ending.model },
    ...(ending.text === undefined && ending.state !== 'completed' ? {} : { result: storable(ending.text ?? '') }),
    ...(ending.state === 'completed' ? { finishReason: ending.finishReason } : {}),
    ...(ending.state === 'failed' ? { error: { ...ending.error, message: storable(ending.error.message) } } : {}),
  })

  const lastWordOf = (run: Run, ending: Ending): LastWord => {
    if (ending.text === undefined && ending.state !== 'completed') return { maxMessages }
    const finishReason = ending.state === 'completed' ? ending.finishReason : ending.state === 'cancelled' ? 'cancelled' : 'error'
    return { text: storable(ending.text ?? ''), model: ending.model ?? run.model, finishReason, maxMessages }
  }

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

  const whoHear = (run: Run) => listeners().filter(({ concerns }) => concerns?.(run) ?? true)

  const self = {
    /**
     * Ends a run that is held here, with what is written before its end; false = it is not completed, nor is that written, because it was sent a message that it has
     * not heard. @throws LeaseLost
     */
    async finish(held: HeldRun, ending: Ending, more: RunChange = {}, facts: readonly Fact[] = []): Promise<boolean> {
      const { run, entries } = held
      const change = { ...changeOf(ending), ...more }
      const over = changed(run, change)
      const hearers = whoHear(run)
      // Gates and staged files there are only where the record says so: what cannot be there need not be looked for.
      const hasWaited = entries.some(({ type }) => type === 'awaiting_approval')
      const mayHaveStaged = ending.state !== 'completed' && entries.some(({ type }) => type === 'tool_call')
      const isDone = await records.write(held, [...facts, factOf(over, ending)], {
        ...{ change, lastWord: lastWordOf(run, ending), ifQuiet: ending.state === 'completed' },
        ...(hasWaited ? { before: (tx) => approvals.withdraw(tx, run.id) } : {}),
        ...(hearers.length > 0 || mayHaveStaged
          ? {
              async after(tx) {
                if (mayHaveStaged) await workspace.discard(run.id, tx)
                for (const hearer of hearers) await hearer.ended(over, tx)
              },
            }
          : {}),
      })
      if (!isDone) return false
      held.over = over
      await self.fellThrough(run.id, ending)
      return true
    },

    /** Ends a run, whoever holds it: that one finds that it has lost it. False = it was over already. */
    async finishFromOutside(runId: string, ending: Ending): Promise<boolean> {
      const told = await db
        .transaction(async (tx) => {
          await approvals.withdraw(tx, runId)
          const run = await findRun(tx, runId)
          if (!run || isOver(run.state)) throw new LeaseLost(runId)
          const change = changeOf(ending)
          const committed = await records.end(tx, run, factOf(run, ending), { change, lastWord: lastWordOf(run, ending) })
          if (ending.state !== 'completed') await workspace.discard(runId, tx)
          for (const hearer of whoHear(run)) await hearer.ended(changed(run, change), tx)
          return committed
        })
        .catch((error: unknown) => {
          if (error instanceof LeaseLost) return undefined
          throw error
        })
      told?.()
      if (told) await self.fellThrough(runId, ending)
      return told !== undefined
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

const callWake = callOf('runs_wake')

/** A run that waits goes on: an approval was decided. */
export async function wake(tx: Transaction, runId: string): Promise<void> {
  await tx.execute(callWake(runId))
}
