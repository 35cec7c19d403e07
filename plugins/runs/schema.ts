/** The tables of runs: sessions and their messages, runs with the record of each, what waits for what, and whose turn it is. */
import { bigint, boolean, doublePrecision, integer, jsonb, pgTable, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { Principal } from 'portico'
import type { RunEntry, RunError, RunInput, RunSpec, RunState } from './contract.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
const count = (name: string) => bigint(name, { mode: 'number' })

/** One row per conversation of a principal. `key` is what the caller names it by: the id, or a name of its own. */
export const sessions = pgTable('runs_sessions', {
  id: text('id').primaryKey(),
  principal: text('principal').notNull(),
  key: text('key').notNull(),
  agent: text('agent').notNull(),
  title: text('title').notNull(),
  /** Of the latest run. */
  model: text('model').notNull(),
  channel: text('channel').notNull(),
  /** ms it may be idle; null = it is kept. */
  ttl: count('ttl'),
  createdAt: moment('created_at').notNull(),
  updatedAt: moment('updated_at').notNull(),
})

/** One row per run. Who holds its lease is alone allowed to write it, and says so by the lease's epoch. */
export const runs = pgTable('runs_runs', {
  seq: count('seq').generatedAlwaysAsIdentity(),
  id: text('id').primaryKey(),
  principalId: text('principal_id').notNull(),
  principal: jsonb('principal').$type<Principal>().notNull(),
  sessionId: text('session_id').notNull(),
  parentId: text('parent_id'),
  depth: integer('depth').notNull(),
  agent: text('agent').notNull(),
  spec: jsonb('spec').$type<RunSpec>().notNull(),
  input: jsonb('input').$type<RunInput>().notNull(),
  state: text('state').$type<RunState>().notNull(),
  priority: integer('priority').notNull(),
  startAt: moment('start_at').notNull(),
  maxConcurrent: integer('max_concurrent'),
  isInteractive: boolean('is_interactive').notNull(),
  /** Of interactive runs: the process in which somebody waits, the only one that may begin it. */
  node: text('node'),
  leaseOwner: text('lease_owner'),
  leaseUntil: moment('lease_until'),
  /** Rises with each new holder, and when somebody ends the run from outside: what an older holder writes meets no row. */
  leaseEpoch: integer('lease_epoch').notNull().default(0),
  /** Of its entries. */
  lastSeq: integer('last_seq').notNull().default(0),
  /** ms of work of former holders. */
  worked: count('worked').notNull().default(0),
  model: text('model').notNull(),
  result: text('result'),
  finishReason: text('finish_reason'),
  error: jsonb('error').$type<RunError>(),
  inputTokens: count('input_tokens').notNull().default(0),
  outputTokens: count('output_tokens').notNull().default(0),
  cost: doublePrecision('cost'),
  steps: integer('steps').notNull().default(0),
  idempotencyKey: text('idempotency_key'),
  requestHash: text('request_hash'),
  metadata: jsonb('metadata').$type<Record<string, unknown>>().notNull(),
  createdAt: moment('created_at').notNull(),
  startedAt: moment('started_at'),
  endedAt: moment('ended_at'),
})

/** Runs that wait for others. */
export const dependencies = pgTable('runs_dependencies', { runId: text('run_id').notNull(), dependsOn: text('depends_on').notNull() }, (table) => [
  primaryKey({ columns: [table.runId, table.dependsOn] }),
])

/** What each run did: by this it goes on after a crash. `key` names the fact, so that it is written once. */
export const entries = pgTable(
  'runs_entries',
  {
    runId: text('run_id').notNull(),
    seq: integer('seq').notNull(),
    key: text('key').notNull(),
    type: text('type').$type<RunEntry['type']>().notNull(),
    data: jsonb('data').$type<Record<string, unknown>>().notNull(),
    at: moment('at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.runId, table.seq] })],
)

/** What was said in sessions, in the order in which it came. */
export const messages = pgTable('runs_messages', {
  id: count('id').primaryKey().generatedAlwaysAsIdentity(),
  sessionId: text('session_id').notNull(),
  runId: text('run_id').notNull(),
  role: text('role').$type<'user' | 'assistant'>().notNull(),
  text: text('text').notNull(),
  /** URLs; null in the place of one that was too large to keep. */
  images: jsonb('images').$type<(string | null)[]>(),
  model: text('model'),
  finishReason: text('finish_reason'),
  createdAt: moment('created_at').notNull(),
})

/** When each principal's runs were last begun: the queue gives everybody a turn. */
export const shares = pgTable('runs_shares', { principalId: text('principal_id').primaryKey(), served: count('served').notNull().default(0) })

/** A row of `sessions`. */
export type SessionRow = typeof sessions.$inferSelect
/** A row of `runs`. */
export type RunRow = typeof runs.$inferSelect
/** A row of `messages`. */
export type MessageRow = typeof messages.$inferSelect

/** States from which a run goes on. */
export const activeStates = ['queued', 'running', 'awaiting_approval'] as const satisfies readonly RunState[]

/** True when it will not change any more. */
export function isOver(state: RunState): boolean {
  return !(activeStates as readonly RunState[]).includes(state)
}
