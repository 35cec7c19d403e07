/** What other plugins may know of runs: the one service everything that executes goes through, its events, and the slots agents, budgets and listeners come in by. */

import { defineEvent, defineService, defineSlot, type Principal, rpc, type Transaction, t } from 'portico'
import type { ApprovalKind } from 'portico/plugins/approvals'

export { wholeRun } from './whole.ts'

/** `completed`, `failed`, `cancelled` and `rejected` are ends. */
export type RunState = 'queued' | 'running' | 'awaiting_approval' | 'completed' | 'failed' | 'cancelled' | 'rejected'

/** What a run is done with: the agent as it was when the run was submitted. Later changes of the agent do not reach the run. */
export interface RunSpec {
  /** The agent's id. */
  readonly agent: string
  /** `provider/model`, or an alias. */
  readonly model: string
  /** Tried in order when the model before fails before its first token. */
  readonly fallbacks: readonly string[]
  readonly instructions: string
  /** Names of tools it may call; `*` = all that are there. */
  readonly tools: readonly string[]
  readonly temperature?: number
  readonly maxOutputTokens?: number
  /** Model calls at most; 1–200. */
  readonly maxSteps: number
  /** ms of work, without waiting for people. */
  readonly timeout: number
  /** Runs of this agent at once in the whole installation; absent = no cap of its own. */
  readonly maxConcurrent?: number
  /** ms a session may be idle before it is forgotten; absent = it is kept. */
  readonly sessionTtl?: number
}

/** What the person says. */
export interface RunInput {
  readonly text: string
  /** `https:` or `data:image/…` URLs. */
  readonly images?: readonly string[]
  /** What the model is to know besides: goes with this run only. */
  readonly context?: readonly string[]
  /** What was said before, of a caller that keeps the conversation itself: goes with this run only, behind what the session knows. */
  readonly history?: readonly { readonly role: 'user' | 'assistant'; readonly text: string }[]
}

/** Why a run failed. */
export interface RunError {
  /** A code of the error table, or `max_steps`, `interrupted`. */
  readonly code: string
  readonly message: string
  /** Seconds after which it may be tried again. */
  readonly retryAfter?: number
}

/** Tokens and money of a run, its children not counted. */
export interface RunUsage {
  readonly inputTokens: number
  readonly outputTokens: number
  /** US dollars; null when some model has no published price. */
  readonly cost: number | null
}

/** A run as it stands in the database. */
export interface Run {
  /** `run_…` */
  readonly id: string
  readonly state: RunState
  readonly principal: Principal
  /** `sess_…` */
  readonly sessionId: string
  /** By what the caller names the session. */
  readonly sessionKey: string
  readonly parentId: string | null
  /** 0 = no parent. */
  readonly depth: number
  readonly spec: RunSpec
  readonly input: RunInput
  /** The model that answered last; before the first answer the spec's. */
  readonly model: string
  /** The answer's text; null before the end. */
  readonly result: string | null
  /** As the model said it: `stop`, `length` …; null before the end. */
  readonly finishReason: string | null
  readonly error: RunError | null
  readonly usage: RunUsage
  /** Model and tool calls that ended. */
  readonly steps: number
  readonly priority: number
  readonly isInteractive: boolean
  readonly metadata: Readonly<Record<string, unknown>>
  readonly createdAt: Date
  readonly startedAt: Date | null
  readonly endedAt: Date | null
}

/** What is to be run. */
export interface RunSubmission {
  readonly principal: Principal
  /** Default the session's, else `default`. @see agentSources */
  readonly agent?: string
  /** What the agent `default` is made of here, in the place of `[runs]`. */
  readonly preset?: Partial<Pick<RunSpec, 'model' | 'instructions'>>
  /** Of the agent's spec, for this run only. A model `agent/<id>` names the agent. */
  readonly override?: Partial<Omit<RunSpec, 'agent'>>
  readonly input: RunInput
  /** The caller's name of a session, or its id; absent = a new session. */
  readonly sessionKey?: string
  /** Where the session came in: `api`, `chat`, a channel's id. */
  readonly channel?: string
  readonly parentId?: string
  /** −100 to 100, higher first; default 0. */
  readonly priority?: number
  /** Not before. */
  readonly startAt?: Date
  /** Runs that must be `completed` first; one that ends otherwise fails this one. */
  readonly dependsOn?: readonly string[]
  /** Begun at once, in this process, by whoever waits for it: cancelled when `signal` aborts. Otherwise it is queued and outlives its submitter. */
  readonly interactive?: { readonly signal: AbortSignal }
  /** What the caller knows it by, and a hash of what was asked: the same again gives the same run, another hash a `conflict`. */
  readonly idempotency?: { readonly key: string; readonly hash: string }
  readonly metadata?: Readonly<Record<string, unknown>>
  /** Within the transaction that takes the run in: what it writes is written with the run, or not at all. */
  also?(run: Run, tx: Transaction): Promise<void>
  /** Publishes what is to be known of it: the events are written with the run, or not at all. `tx` takes events only, which costs no transaction. */
  announce?(run: Pick<Run, 'id' | 'sessionKey' | 'model'>, tx: Transaction): unknown
}

/** How a message reaches a session that is at work. `steer`: the run under way hears it before its next model call. `collect`: it joins the run that waits in the
 * session's queue, or becomes one. `followup`: a run of its own after those before. `interrupt`: what is under way is cancelled first. */
export type RunMode = 'followup' | 'steer' | 'collect' | 'interrupt'

/** Which runs. */
export interface RunFilter {
  readonly state?: RunState
  readonly agent?: string
  readonly sessionKey?: string
  readonly parentId?: string
  /** 1–200; default 50. */
  readonly limit?: number
  /** Id of a run: older ones only. */
  readonly before?: string
}

/** What a run did, in order: the record it goes on by after a crash. */
export interface RunEntry {
  /** From 1, without gaps. */
  readonly seq: number
  readonly type:
    | 'queued'
    | 'started'
    | 'message'
    | 'model_call'
    | 'tool_call'
    | 'tool_result'
    | 'awaiting_approval'
    | 'completed'
    | 'failed'
    | 'cancelled'
    | 'rejected'
  readonly at: Date
  readonly data: Readonly<Record<string, unknown>>
}

/** What a watcher is told. `id` is where to go on after: a watcher that comes again with it misses and repeats nothing. */
export type RunUpdate =
  /** The text of the model call under way grows. `isRestart`: its call is made anew after a crash, what came of it before is void. */
  | { readonly type: 'delta'; readonly id: string; readonly text: string; readonly isRestart?: true }
  | { readonly type: 'entry'; readonly id: string; readonly entry: RunEntry }
  | { readonly type: 'progress'; readonly id: string; readonly callId: string; readonly message: string; readonly fraction?: number }
  | { readonly type: 'end'; readonly id: string; readonly run: Run }

/** A message of a session. */
export interface SessionMessage {
  readonly id: number
  readonly sessionKey: string
  readonly channel: string
  readonly runId: string
  readonly role: 'user' | 'assistant'
  readonly text: string
  readonly images: readonly (string | null)[]
  readonly model: string | null
  /** Of an answer; `cancelled` and `error` say that it is not whole. */
  readonly finishReason: string | null
  readonly createdAt: Date
}

/** A conversation. */
export interface Session {
  readonly id: string
  readonly key: string
  readonly agent: string
  readonly title: string
  readonly model: string
  readonly channel: string
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** A principal with conversations. */
export interface SessionOwner {
  readonly principal: string
  readonly sessions: number
  /** When one of them was last used. */
  readonly latestAt: Date
}

/** The service `runs`. What belongs to another principal is `not_found`, except for `admin`. */
export interface Runs {
  /**
   * @throws GatewayError `not_found` (agent, session, parent, dependency), `model_not_found`, `conflict` (idempotency), `rate_limit_exceeded` (too many queued),
   * `validation_failed`, `unavailable` (stopping, or no model)
   */
  submit(submission: RunSubmission): Promise<Run>
  /** By the mode: a new run, or the one that took the message in. */
  send(submission: RunSubmission & { sessionKey: string }, mode: RunMode): Promise<Run>
  get(id: string, principal: Principal): Promise<Run>
  list(principal: Principal, filter?: RunFilter): Promise<Run[]>
  /** Entries after `since`, at most 1,000. */
  entries(id: string, principal: Principal, since?: number): Promise<RunEntry[]>
  /** Ends after `end`, or when the signal aborts. A reader that does not read holds nothing up. */
  watch(id: string, principal: Principal, options: { signal: AbortSignal; after?: string }): AsyncGenerator<RunUpdate, void>
  /** Cancels it and its children, in whatever state; ids of those that were not over. */
  cancel(id: string, principal: Principal, options?: { reason?: string; cascade?: boolean }): Promise<string[]>
  /** Cancels all there is, of everybody: for `admin` only. */
  cancelAll(reason: string): Promise<string[]>
  /** The same again, as a new run in the same session. @throws GatewayError `conflict` when it is not over */
  retry(id: string, principal: Principal): Promise<Run>
  /** With all it left; cancelled first when it is not over. */
  delete(id: string, principal: Principal): Promise<void>
  readonly sessions: {
    find(principal: Principal, key: string): Promise<Session>
    list(principal: Principal, limit: number): Promise<Session[]>
    /** Newest first. */
    messages(principal: Principal, filter: { sessionKey?: string; channel?: string; before?: number; limit: number }): Promise<SessionMessage[]>
    /** With its runs: those under way are cancelled first. */
    remove(principal: Principal, key: string): Promise<Session>
    /** Whoever has any, the latest first, also those whose credential is gone: for `admin` only. */
    owners(limit: number): Promise<SessionOwner[]>
    /** Removes all of a principal; how many. For `admin` only. */
    forget(principalId: string): Promise<number>
  }
}

/** The ref of the service. */
export const runs = defineService<Runs>('runs')

/** Models of this provider are agents: `agent/<id>`. */
export const agentProvider = 'agent'

/** Where agents come from. */
export interface AgentSource {
  /** The spec of an agent, for this principal; undefined = not one of this source's. `preset`: the agent `default` as `[runs]` makes it, for what an agent leaves open. */
  find(agent: string, principal: Principal, preset: RunSpec): RunSpec | undefined | Promise<RunSpec | undefined>
}

/** By which plugins bring agents. Without any, there is `default`, made of `[runs]`. */
export const agentSources = defineSlot<AgentSource>('agentSources', { deadline: 5_000 })

/** A model call that is about to be made. */
export interface BudgetRequest {
  readonly runId: string
  readonly principal: Principal
  readonly model: string
  /** Characters of what is sent, by which tokens are estimated. */
  readonly inputCharacters: number
  readonly maxOutputTokens?: number
}

/** A reservation: settled or released, once. */
export interface BudgetReservation {
  settle(usage: { inputTokens: number; outputTokens: number; cost: number | null }): Promise<void>
  /** The call failed and cost nothing. */
  release(): Promise<void>
}

/** Who lets a model call through: throws `rate_limit_exceeded` with `retryAfter` when there is nothing left. */
export interface BudgetKeeper {
  reserve(request: BudgetRequest, signal: AbortSignal): Promise<BudgetReservation>
}

/** By which plugins keep budgets: all of them are asked. */
export const budgetKeepers = defineSlot<BudgetKeeper>('budgetKeepers', { deadline: 10_000 })

/** Who is told, within the transaction that ends it, that a run is over. */
export interface RunListener {
  /** Which runs; absent = all. What concerns nobody ends without a transaction round it. */
  concerns?(run: Run): boolean
  ended(run: Run, tx: Transaction): Promise<void>
}

/** By which plugins hear of ends. */
export const runListeners = defineSlot<RunListener>('runListeners', { deadline: 10_000 })

const common = { runId: t.String(), sessionKey: t.String(), agent: t.String() }
const callId = t.String({ description: 'Of the call within the run' })
const tool = t.String({ description: 'The tool’s name' })
const kind = t.Enum(['tool', 'artifacts', 'repeat', 'question'] satisfies [ApprovalKind, ...ApprovalKind[]])
const error = t.Object({ code: t.String(), message: t.String(), retryAfter: t.Optional(t.Number()) })
const tokens = { inputTokens: t.Integer(), outputTokens: t.Integer() }
const durable = (summary: string) => ({ scope: rpc, durable: true as const, summary })

/** A run was taken in. */
export const runQueued = defineEvent('run:queued', t.Object({ ...common, parentId: t.Nullable(t.String()) }), durable('A run was taken in'))
/** A run was begun, or goes on after waiting or a crash. */
export const runStarted = defineEvent('run:started', t.Object({ ...common, isResumed: t.Boolean() }), durable('A run was begun, or goes on'))
/** A model answered. */
export const runStep = defineEvent(
  'run:step',
  t.Object({ ...common, step: t.Integer({ minimum: 1 }), model: t.String(), finishReason: t.String(), ...tokens }),
  durable('A model answered within a run'),
)
/** A tool is about to be called. */
export const runToolCall = defineEvent('run:tool_call', t.Object({ ...common, callId, tool }), durable('A run calls a tool'))
/** A tool call ended. */
export const runToolResult = defineEvent('run:tool_result', t.Object({ ...common, callId, tool, isError: t.Boolean() }), durable('A tool call of a run ended'))
/** A run waits for somebody. */
export const runAwaitingApproval = defineEvent(
  'run:awaiting_approval',
  t.Object({ ...common, approvalIds: t.Array(t.String()), kinds: t.Array(kind) }),
  durable('A run waits for somebody’s decision'),
)
/** A run ended well. */
export const runCompleted = defineEvent('run:completed', t.Object({ ...common, finishReason: t.String(), ...tokens }), durable('A run ended well'))
/** A run failed. */
export const runFailed = defineEvent('run:failed', t.Object({ ...common, error }), durable('A run failed'))
/** A run was cancelled. */
export const runCancelled = defineEvent('run:cancelled', t.Object({ ...common, reason: t.String() }), durable('A run was cancelled'))
/** A run was refused by a person or by a deadline. */
export const runRejected = defineEvent('run:rejected', t.Object({ ...common, reason: t.String() }), durable('A run was refused by a person or a deadline'))
/** How far a tool is. */
export const runProgress = defineEvent(
  'run:progress',
  t.Object({ ...common, callId, message: t.String(), fraction: t.Optional(t.Number({ minimum: 0, maximum: 1 })) }),
  { scope: rpc, durable: false, summary: 'How far a tool of a run is' },
)
/** A piece of an answer, as it comes. */
export const messageStreaming = defineEvent('message:streaming', t.Object({ sessionKey: t.String(), runId: t.String(), delta: t.String() }), {
  scope: rpc,
  durable: false,
  summary: 'A piece of an answer, as it comes',
})
/** The first message of a session. */
export const sessionCreated = defineEvent('session:created', t.Object({ sessionKey: t.String(), agent: t.String() }), durable('A session began'))
/** A session that nobody went on with was forgotten. */
export const sessionExpired = defineEvent(
  'session:expired',
  t.Object({ sessionKey: t.String(), agent: t.String() }),
  durable('A session was idle too long and is forgotten'),
)
