/** The record of a run: what happened is written with its event, by whoever holds the lease and nobody else, once, also when the database goes away in between. */
import { and, eq, inArray, sql } from 'drizzle-orm'
import { type Clock, type Database, isGatewayError, type PluginContext, type Transaction } from 'portico'
import { storableJson } from 'portico/plugins/database'
import {
  messageStreaming,
  type Run,
  type RunEntry,
  type RunError,
  runAwaitingApproval,
  runCancelled,
  runCompleted,
  runFailed,
  runProgress,
  runQueued,
  runRejected,
  runStarted,
  runStep,
  runToolCall,
  runToolResult,
  sessionCreated,
  sessionExpired,
} from './contract.ts'
import { readEntries } from './rows.ts'
import { entries, runs } from './schema.ts'

/** Those of entries: each is published with its entry. */
export const entryEvents = [
  ...[runQueued, runStarted, runStep, runToolCall, runToolResult],
  ...[runAwaitingApproval, runCompleted, runFailed, runCancelled, runRejected],
] as const
/** The event types this plugin owns. */
export const runEvents = [...entryEvents, runProgress, messageStreaming, sessionCreated, sessionExpired] as const
/** How they are published. */
export type PublishRunEvent = PluginContext<unknown, typeof runEvents>['publish']

/** A fact that is to be written. `key` names it within the run. */
export interface Fact {
  readonly key: string
  readonly type: RunEntry['type']
  readonly data: Readonly<Record<string, unknown>>
}

/** A run that this process works on. */
export interface HeldRun {
  /** Its usage grows. */
  run: Run
  readonly epoch: number
  /** All of them, from the first: `entries[n].seq` is n + 1. */
  readonly entries: RunEntry[]
  /** ms of work of former holders. */
  readonly worked: number
  /** Of its session: nothing was said before. */
  readonly isFirst?: boolean
}

/** Another process has the run now, or somebody ended it: nothing more may be done for it here. */
export class LeaseLost extends Error {
  constructor(runId: string) {
    super(`The lease of ${runId} is lost`)
    this.name = 'LeaseLost'
  }
}

/** What it works with. */
export interface RecordOptions {
  readonly db: Database
  readonly clock: Clock
  /** ms. */
  readonly lease: number
  /** Aborted when the plugin has to be gone. */
  readonly signal: AbortSignal
  readonly publish: PublishRunEvent
  isAway(error: unknown): boolean
}

/** What else changes with the facts. */
export interface RecordChange {
  /** Columns of the run. */
  readonly columns?: Record<string, unknown>
  /** In the same transaction, before the run's row is locked. */
  before?(tx: Transaction): Promise<void>
  /** After it. */
  after?(tx: Transaction): Promise<void>
  /** Only if nobody has written to the run meanwhile; what was written is read, and false returned. */
  readonly ifQuiet?: boolean
}

/** Makes what writes records. */
export type Records = ReturnType<typeof createRecords>

const [shortestPause, longestPause] = [100, 2_000]

/** Makes it. */
export function createRecords({ db, clock, lease, signal, publish, isAway }: RecordOptions) {
  const leased = sql`clock_timestamp() + ${lease} * interval '1 millisecond'`

  /** Writes facts of a run whose row the transaction has locked, numbered up to `lastSeq`, with their events. */
  async function insert(tx: Transaction, run: Run, facts: readonly Fact[], lastSeq: number): Promise<RunEntry[]> {
    const at = new Date(clock.now())
    const first = lastSeq - facts.length + 1
    const written = facts.map(({ type, data }, index) => ({ seq: first + index, type, at, data: storableJson(data) }))
    if (written.length > 0) await tx.insert(entries).values(written.map((entry, index) => ({ ...entry, runId: run.id, key: (facts[index] as Fact).key })))
    for (const entry of written) await announce(tx, run, entry)
    return written
  }

  /** Publishes an entry's event, if it has one. */
  function announce(tx: Transaction, run: Run, { type, data }: RunEntry): Promise<void> | undefined {
    const common = { runId: run.id, sessionKey: run.sessionKey, agent: run.spec.agent }
    const options = { tx, principal: run.principal.id, subject: run.id }
    // biome-ignore lint/suspicious/noExplicitAny: written by this plugin, and checked against the event's schema when it is published
    const { callId, tool, isError, step, model, finishReason, inputTokens, outputTokens, approvalIds, kinds, error, reason, isResumed } = data as any
    switch (type) {
      case 'queued':
        return publish(runQueued, { ...common, parentId: run.parentId }, options)
      case 'started':
        return publish(runStarted, { ...common, isResumed }, options)
      case 'model_call':
        return publish(runStep, { ...common, step, model, finishReason, inputTokens, outputTokens }, options)
      case 'tool_call':
        return publish(runToolCall, { ...common, callId, tool }, options)
      case 'tool_result':
        return publish(runToolResult, { ...common, callId, tool, isError }, options)
      case 'awaiting_approval':
        return publish(runAwaitingApproval, { ...common, approvalIds, kinds }, options)
      case 'completed':
        return publish(runCompleted, { ...common, finishReason, inputTokens, outputTokens }, options)
      case 'failed':
        return publish(runFailed, { ...common, error }, options)
      case 'cancelled':
        return publish(runCancelled, { ...common, reason }, options)
      case 'rejected':
        return publish(runRejected, { ...common, reason }, options)
      case 'message':
        return undefined
    }
  }

  /** Does it, and again while the database is away: what happened once is in memory until it can be written. */
  async function durably<T>(attempt: (isRepeated: boolean) => Promise<T>): Promise<T> {
    for (let pause = shortestPause, isRepeated = false; ; pause = Math.min(longestPause, 2 * pause), isRepeated = true) {
      try {
        return await attempt(isRepeated)
      } catch (error) {
        if (!isAway(error)) throw error
        await clock.sleep(pause, signal)
      }
    }
  }

  return {
    insert,
    durably,
    leased,
    /** For the columns of a fact that ends a step. */
    oneMoreStep: sql`${runs.steps} + 1`,
    /**
     * Writes facts of a run that is held here, and renews its lease. What others wrote meanwhile (messages to the run) is read too.
     * @throws LeaseLost
     */
    write(held: HeldRun, facts: readonly Fact[], { columns = {}, before, after, ifQuiet = false }: RecordChange = {}): Promise<boolean> {
      const { run, epoch } = held
      const keys = facts.map(({ key }) => key)
      return durably(async (isRepeated) => {
        const known = held.entries.length
        let isDone = true
        const more = await db.transaction(async (tx) => {
          // The answer to a commit may be lost though it was done.
          if (isRepeated && (await isWritten(tx, run.id, keys))) return readEntries(tx, run.id, known)
          await before?.(tx)
          const mine = and(eq(runs.id, run.id), eq(runs.leaseEpoch, epoch), eq(runs.state, 'running'))
          const [row] = await tx
            .update(runs)
            .set({ lastSeq: sql`${runs.lastSeq} + ${facts.length}`, leaseUntil: leased, ...columns })
            .where(ifQuiet ? and(mine, eq(runs.lastSeq, known)) : mine)
            .returning({ lastSeq: runs.lastSeq })
          if (!row && ifQuiet) {
            isDone = false
            const said = await readEntries(tx, run.id, known)
            if (said.length > 0) return said
          }
          if (!row) throw new LeaseLost(run.id)
          const between = row.lastSeq - facts.length > known ? await readEntries(tx, run.id, known) : []
          const own = await insert(tx, run, facts, row.lastSeq)
          await after?.(tx)
          return [...between, ...own]
        })
        held.entries.push(...more.slice(held.entries.length - known))
        return isDone
      })
    },
  }

  async function isWritten(tx: Transaction, runId: string, keys: readonly string[]): Promise<boolean> {
    if (keys.length === 0) return false
    const rows = await tx
      .select({ key: entries.key })
      .from(entries)
      .where(and(eq(entries.runId, runId), inArray(entries.key, [...keys])))
    return rows.length === keys.length
  }
}

/** The error as a run says it: a gateway's own word, or that the log has it. */
export function toRunError(error: unknown): RunError {
  if (!isGatewayError(error)) return internal
  const { code, message, retryAfter } = error
  return { code, message, ...(retryAfter === undefined ? {} : { retryAfter }) }
}

const internal: RunError = { code: 'internal_error', message: 'The run failed in the gateway; its log has the reason.' }
