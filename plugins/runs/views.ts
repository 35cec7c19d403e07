/** Runs as their routes show them: the fields of AgentZero's gateway, and Portico's own beside them. */
import { t } from 'portico'
import type { Run, RunEntry, RunState } from './contract.ts'

/** All of them. */
export const runStates = ['queued', 'running', 'awaiting_approval', 'completed', 'failed', 'cancelled', 'rejected'] as const satisfies readonly RunState[]

const moment = t.String({ format: 'date-time' })

/** A run. */
export const runView = t.Object({
  run_id: t.String(),
  status: t.Enum(runStates),
  agent_id: t.String(),
  session_key: t.String(),
  parent_run_id: t.Nullable(t.String()),
  depth: t.Integer(),
  model: t.String(),
  message: t.String({ description: 'What was asked, at most its first 2,000 characters' }),
  result: t.Nullable(t.String({ description: 'The answer; null before the end' })),
  finish_reason: t.Nullable(t.String()),
  error: t.Nullable(t.Object({ code: t.String(), message: t.String() })),
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

/** The run as `runView`. */
export function toView(run: Run) {
  const { inputTokens, outputTokens, cost } = run.usage
  return {
    run_id: run.id,
    status: run.state,
    agent_id: run.spec.agent,
    session_key: run.sessionKey,
    parent_run_id: run.parentId,
    depth: run.depth,
    model: run.model,
    message: run.input.text.slice(0, 2_000),
    result: run.result,
    finish_reason: run.finishReason,
    error: run.error && { code: run.error.code, message: run.error.message },
    steps: run.steps,
    tokens_used: inputTokens + outputTokens,
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cost_microdollars: cost === null ? null : Math.round(cost * 1e6),
    priority: run.priority,
    metadata: { ...run.metadata },
    created_at: run.createdAt.toISOString(),
    created_at_epoch_ms: run.createdAt.getTime(),
    started_at: run.startedAt?.toISOString() ?? null,
    ended_at: run.endedAt?.toISOString() ?? null,
  }
}

/** What a run did. */
export const entryView = t.Object({
  seq: t.Integer(),
  type: t.String(),
  run_id: t.String(),
  at: moment,
  tool: t.Optional(t.String()),
  call_id: t.Optional(t.String({ description: 'Of the tool call within the run' })),
  input: t.Optional(t.Unknown()),
  result: t.Optional(t.Unknown({ description: 'What a tool answered: parts of text, image, audio or resource' })),
  is_error: t.Optional(t.Boolean()),
  text: t.Optional(t.String({ description: 'Of a model’s answer, or of a message to the run' })),
  model: t.Optional(t.String()),
  tool_calls: t.Optional(t.Array(t.Object({ call_id: t.String(), tool: t.String(), input: t.Unknown() }))),
  approval_ids: t.Optional(t.Array(t.String())),
  reason: t.Optional(t.String()),
  error: t.Optional(t.Object({ code: t.String(), message: t.String() })),
})

interface EntryData {
  tool?: string
  call?: string
  input?: unknown
  parts?: unknown
  structured?: unknown
  isError?: boolean
  text?: string
  model?: string
  calls?: { call: string; name: string; input: unknown }[]
  approvalIds?: string[]
  reason?: string
  error?: { code: string; message: string }
}

/** The entry as `entryView`. */
export function toEntryView(runId: string, { seq, type, at, data }: RunEntry) {
  const { tool, call, input, parts, structured, isError, text, model, calls, approvalIds, reason, error } = data as EntryData
  const all = {
    ...{ tool, call_id: call, input, is_error: isError, text, model, approval_ids: approvalIds, reason },
    result: structured ?? parts,
    error: error && { code: error.code, message: error.message },
    tool_calls: calls?.map(({ call, name, input }) => ({ call_id: call, tool: name, input: input ?? null })),
  }
  const given = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as typeof all
  return { seq, type, run_id: runId, at: at.toISOString(), ...given }
}
