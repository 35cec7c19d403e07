/** The record of a run: what happened is written with its event, by whoever holds the lease and nobody else, once, also when the database goes away in between. */
import { sql } from 'drizzle-orm'
import { type Clock, type Database, isGatewayError, type PluginContext, type Transaction } from 'portico'
import { callOf, storableJson } from 'portico/plugins/database'
import type { EventLog } from 'portico/plugins/event-log'
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
  /** It as it ended, once it has ended here. */
  over?: Run
  /** It is put back at its next step: the gateway stops. */
  isStopping?: boolean
}

/** What changes of a run's row. */
export interface RunChange {
  readonly state?: Run['state']
  readonly model?: string
  readonly result?: string
  readonly finishReason?: string
  readonly error?: RunError
  readonly inputTokens?: number
  readonly outputTokens?: number
  readonly cost?: number | null
  readonly endedAt?: Date
  /** Is added. */
  readonly steps?: number
  /** ms, are added. */
  readonly worked?: number
}

/** What an end leaves in the session. */
export interface LastWord {
  /** Absent = nothing was said. */
  readonly text?: string
  readonly model?: string
  readonly finishReason?: string
  /** Messages that the session keeps. */
  readonly maxMessages: number
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
  batch: EventLog['batch']
  isAway(error: unknown): boolean
}

/** What else is written with the facts. */
export interface RecordChange {
  readonly change?: RunChange
  /** The run has ended: its session and its parent hear of it. */
  readonly lastWord?: LastWord
  /** In the same transaction, before the run's row is locked. */
  before?(tx: Transaction): Promise<void>
  /** After it. */
  after?(tx: Transaction): Promise<void>
  /** Only if nobody has written to the run meanwhile; what was written is read, and false returned. */
  readonly ifQuiet?: boolean
}

/** How a write went, as the function `runs_write` says it. */
type Outcome = { readonly outcome: 'written' | 'repeated' | 'heard' | 'lost'; readonly last_seq: number }

interface Written {
  readonly outcome: Outcome['outcome']
  /** Absent = to be read. */
  readonly more: RunEntry[] | undefined
  /** To be called after the commit. */
  committed(): void
}

/** Leaves a transaction in which nothing was to be written. */
class Unwritten extends Error {
  readonly written: Written

  constructor(written: Written) {
    super('It was written before, or is not to be written')
    this.written = written
  }
}

/** Makes what writes records. */
export type Records = ReturnType<typeof createRecords>

const [shortestPause, longestPause] = [100, 2_000]
const callWrite = callOf('runs_write')

/** Makes it. */
export function createRecords({ db, clock, lease, signal, publish, batch: openBatch, isAway }: RecordOptions) {
  const leased = sql`clock_timestamp() + ${lease} * interval '1 millisecond'`

  /** Publishes an entry's event, if it has one. */
  function announce(tx: Transaction, run: Run, { type, data }: Pick<RunEntry, 'type' | 'data'>): Promise<void> | undefined {
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

  /** One call of the database. `holder` null = whoever holds it: that one loses it. */
  async function writeOn(on: Database | Transaction, run: Run, holder: number | null, facts: readonly Fact[], known: number, how: How): Promise<Written> {
    const { change = {}, lastWord = null, ifQuiet = false, isRepeated = false } = how
    const at = new Date(clock.now())
    const batch = openBatch()
    const own = facts.map(({ key, type, data }) => ({ key, type, data: storableJson(data) }))
    await Promise.all(own.map((fact) => announce(batch.tx, run, fact)))
    const json = [own, change, lastWord].map((each) => each && JSON.stringify(each))
    const { rows } = await on.execute<Outcome>(callWrite(run.id, holder, known, ifQuiet, isRepeated, at, lease, ...json, batch.json()))
    const { outcome, last_seq: lastSeq } = rows[0] as Outcome
    if (outcome === 'lost') throw new LeaseLost(run.id)
    const isAlone = outcome === 'written' && lastSeq - facts.length === known
    const more = isAlone ? own.map(({ type, data }, index) => ({ seq: known + 1 + index, type, at, data })) : undefined
    return { outcome, more, committed: () => batch.committed() }
  }

  return {
    announce,
    durably,
    leased,
    /**
     * Writes facts of a run that is held here, and renews its lease. What others wrote meanwhile (messages to the run) is read too.
     * @throws LeaseLost
     */
    write(held: HeldRun, facts: readonly Fact[], { before, after, ...how }: RecordChange = {}): Promise<boolean> {
      const { run, epoch } = held
      return durably(async (isRepeated) => {
        const known = held.entries.length
        const write = (on: Database | Transaction) => writeOn(on, run, epoch, facts, known, { ...how, isRepeated })
        const whole = async (tx: Transaction) => {
          await before?.(tx)
          const written = await write(tx)
          // What was asked before it was asked for nothing, or is a question asked twice: it goes with the transaction.
          if (written.outcome !== 'written') throw new Unwritten(written)
          await after?.(tx)
          return written
        }
        const together = () => db.transaction(whole).catch((error: unknown) => (error instanceof Unwritten ? error.written : Promise.reject(error)))
        const { outcome, more, committed } = before || after ? await together() : await write(db)
        committed()
        const entries = more ?? (await readEntries(db, run.id, known))
        held.entries.push(...entries.slice(held.entries.length - known))
        if (outcome !== 'heard' && how.change) held.run = changed(held.run, how.change)
        return outcome !== 'heard'
      })
    },

    /** Ends a run from outside, whoever holds it, in the transaction. The result: what to call after the commit. @throws LeaseLost when it was over already */
    async end(tx: Transaction, run: Run, fact: Fact, how: Pick<RecordChange, 'change' | 'lastWord'>): Promise<() => void> {
      return (await writeOn(tx, run, null, [fact], 0, how)).committed
    },
  }
}

type How = Pick<RecordChange, 'change' | 'lastWord' | 'ifQuiet'> & { readonly isRepeated?: boolean }

/** The run with the change. */
export function changed(run: Run, { state, model, result, finishReason, error, inputTokens, outputTokens, cost, endedAt, steps = 0 }: RunChange): Run {
  const { usage } = run
  return {
    ...run,
    ...{ state: state ?? run.state, model: model ?? run.model, result: result ?? run.result, finishReason: finishReason ?? run.finishReason },
    ...{ error: error ?? run.error, endedAt: endedAt ?? run.endedAt, steps: run.steps + steps },
    usage: {
      inputTokens: inputTokens ?? usage.inputTokens,
      outputTokens: outputTokens ?? usage.outputTokens,
      cost: cost === undefined ? usage.cost : cost,
    },
  }
}

/** The error as a run says it: a gateway's own word, or that the log has it. */
export function toRunError(error: unknown): RunError {
  if (!isGatewayError(error)) return internal
  const { code, message, retryAfter } = error
  return { code, message, ...(retryAfter === undefined ? {} : { retryAfter }) }
}

const internal: RunError = { code: 'internal_error', message: 'The run failed in the gateway; its log has the reason.' }
