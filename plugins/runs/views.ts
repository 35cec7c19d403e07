/** Runs as their routes show them: the fields and words of AgentZero's gateway (research, seed 4), and Portico's own beside them. */
import { t } from 'portico'
import type { ToolPart } from 'portico/plugins/tools'
import type { Artifact } from 'portico/plugins/workspace'
import type { Run, RunEntry, RunState } from './contract.ts'

/** The words of `status`. Its clients know no `rejected`: to them such a run has failed. */
export const statuses = ['queued', 'running', 'awaiting_approval', 'completed', 'failed', 'cancelled'] as const
const states = [...statuses, 'rejected'] as const satisfies readonly RunState[]

/** What a list may be narrowed to: a status, or `rejected` alone. */
export const statusFilter = t.Enum(states, { description: '`failed` includes rejected ones; `rejected` = those alone' })

/** The states that a status means. */
export function toStates(status: RunState): readonly RunState[] {
  return status === 'failed' ? ['failed', 'rejected'] : [status]
}

/** The status of a run in this state. */
export function toStatus(state: RunState): (typeof statuses)[number] {
  return state === 'rejected' ? 'failed' : state
}

const moment = t.String({ format: 'date-time' })
const failure = t.Object({ code: t.String(), message: t.String() })
/** Characters of texts in a list. */
const excerpt = 2_000

/** A run. */
export const runView = t.Object({
  run_id: t.String(),
  status: t.Enum(statuses, { description: 'A rejected run is `failed` here' }),
  state: t.Enum(states),
  agent_id: t.String(),
  session_key: t.String(),
  parent_run_id: t.Nullable(t.String()),
  depth: t.Integer({ description: '0 = no parent' }),
  model: t.String({ description: 'That answered last' }),
  message: t.String({ description: `What was asked: its first ${excerpt} characters` }),
  result: t.Nullable(t.String({ description: `The answer; null before the end. In a list its first ${excerpt} characters` })),
  finish_reason: t.Nullable(t.String()),
  error: t.Nullable(failure),
  steps: t.Integer({ description: 'Model and tool calls that ended' }),
  tokens_used: t.Integer(),
  input_tokens: t.Integer(),
  output_tokens: t.Integer(),
  cost_microdollars: t.Nullable(t.Integer({ description: 'Null when a model has no published price' })),
  priority: t.Integer(),
  metadata: t.Record(t.String(), t.Unknown()),
  created_at: moment,
  created_at_epoch_ms: t.Integer(),
  started_at: t.Nullable(moment),
  ended_at: t.Nullable(moment),
})

/** The run as `runView`, whole. */
export function toView(run: Run) {
  const { inputTokens, outputTokens, cost } = run.usage
  return {
    run_id: run.id,
    status: toStatus(run.state),
    state: run.state,
    agent_id: run.spec.agent,
    session_key: run.sessionKey,
    parent_run_id: run.parentId,
    depth: run.depth,
    model: run.model,
    message: excerptOf(run.input.text),
    result: run.result,
    finish_reason: run.finishReason,
    error: toFailure(run),
    steps: run.steps,
    tokens_used: inputTokens + outputTokens,
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cost_microdollars: cost === null ? null : Math.round(cost * 1_000_000),
    priority: run.priority,
    metadata: { ...run.metadata },
    created_at: run.createdAt.toISOString(),
    created_at_epoch_ms: run.createdAt.getTime(),
    started_at: run.startedAt?.toISOString() ?? null,
    ended_at: run.endedAt?.toISOString() ?? null,
  }
}

/** The run as `runView`, in a list: two hundred long answers would be too much for one. */
export function toListed(run: Run) {
  const view = toView(run)
  return { ...view, result: view.result === null ? null : excerptOf(view.result) }
}

/** Its beginning; no character is halved. */
function excerptOf(text: string): string {
  return text.slice(0, excerpt).replace(/[\ud800-\udbff]$/, '')
}

function toFailure({ error, state }: Run): { code: string; message: string } | null {
  if (error) return { code: error.code, message: error.message }
  return state === 'rejected' ? { code: 'rejected', message: 'A person or a deadline refused what it asked for; its events have the reason.' } : null
}

/** What a run did. */
export const entryView = t.Object({
  seq: t.Integer(),
  type: t.String({ description: 'queued, started, message, model_call, tool_call, tool_result, awaiting_approval, completed, failed, cancelled or rejected' }),
  run_id: t.String(),
  at: moment,
  tool: t.Optional(t.String()),
  call_id: t.Optional(t.String({ description: 'Of the tool call within the run' })),
  input: t.Optional(t.Unknown({ description: 'What the tool is called with' })),
  result: t.Optional(t.Unknown({ description: 'What a tool answered: an object, or parts of text, image, audio or resource' })),
  is_error: t.Optional(t.Boolean({ description: 'The tool failed; the run goes on' })),
  text: t.Optional(t.String({ description: 'Of a model’s answer, or of a message to the run' })),
  model: t.Optional(t.String()),
  tool_calls: t.Optional(t.Array(t.Object({ call_id: t.String(), tool: t.String(), input: t.Unknown() }), { description: 'What the model asked for' })),
  approval_ids: t.Optional(t.Array(t.String(), { description: 'What is waited for' })),
  reason: t.Optional(t.String({ description: 'Why it was cancelled or rejected' })),
  error: t.Optional(failure),
})

/** What the record keeps of an entry, as far as it is shown. */
interface EntryData {
  readonly tool?: string
  readonly call?: string
  readonly input?: unknown
  readonly parts?: readonly ToolPart[]
  readonly structured?: unknown
  readonly isError?: boolean
  readonly text?: string
  readonly model?: string
  readonly calls?: readonly { readonly call: string; readonly name: string; readonly input?: unknown }[]
  readonly approvalIds?: string[]
  readonly reason?: string
  readonly error?: { readonly code: string; readonly message: string }
}

/** The entry as `entryView`: only what it has. */
export function toEntryView(runId: string, { seq, type, at, data }: RunEntry) {
  const { tool, call, input, parts, structured, isError, text, model, calls, approvalIds, reason, error } = data as EntryData
  return {
    ...{ seq, type, run_id: runId, at: at.toISOString() },
    ...given({
      ...{ tool, input, text, model, reason, call_id: call, is_error: isError, approval_ids: approvalIds },
      result: structured ?? parts,
      error: error && { code: error.code, message: error.message },
      tool_calls: calls?.map(({ call, name, input }) => ({ call_id: call, tool: name, input: input ?? null })),
    }),
  }
}

function given<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>
}

/** What was said. */
export const transcriptView = t.Object({ role: t.Enum(['user', 'assistant', 'tool']), content: t.String(), created_at: moment })

/** What the entry says to somebody who reads along; undefined = nothing. */
export function toTranscript({ type, at, data }: RunEntry) {
  const { text = '', parts, structured } = data as EntryData
  const said = (role: 'user' | 'assistant' | 'tool', content: string) => (content === '' ? undefined : { role, content, created_at: at.toISOString() })
  if (type === 'message') return said('user', text)
  if (type === 'model_call') return said('assistant', text)
  if (type === 'tool_result') return said('tool', structured === undefined ? (parts ?? []).map(toText).join('\n') : JSON.stringify(structured))
  return undefined
}

function toText(part: ToolPart): string {
  if (part.type === 'text') return part.text
  return part.type === 'resource' ? (part.text ?? `[resource ${part.uri}]`) : `[${part.type} ${part.mediaType}]`
}

/** A staged file. */
export const artifactView = t.Object({
  id: t.String(),
  path: t.String({ description: 'Inside the workspace' }),
  change: t.Enum(['created', 'modified', 'deleted']),
  state: t.Enum(['staged', 'applied', 'discarded', 'undone']),
  size: t.Integer({ description: 'Bytes of the new content' }),
  is_binary: t.Boolean(),
  diff: t.String({ description: 'Lines that come and go: `+85 -0`; of a binary file `binary`' }),
  before: t.Nullable(t.String({ description: 'SHA-256 of what stood there' })),
  after: t.Nullable(t.String({ description: 'SHA-256 of what is to stand there' })),
})

/** The artifact as `artifactView`. */
export function toArtifactView({ id, path, change, state, size, isBinary, diff, before, after }: Artifact) {
  return { id, path, change, state, size, is_binary: isBinary, diff, before, after }
}
