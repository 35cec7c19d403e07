/** The one table of all gates. */
import { bigint, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'
import type { ApprovalKind, ApprovalState } from './contract.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })

/** One row per gate; what was decided stays until its run is forgotten. */
export const approvals = pgTable('approvals_approvals', {
  seq: bigint('seq', { mode: 'number' }).generatedAlwaysAsIdentity(),
  id: text('id').primaryKey(),
  runId: text('run_id').notNull(),
  owner: text('owner').notNull(),
  kind: text('kind').$type<ApprovalKind>().notNull(),
  callId: text('call_id'),
  title: text('title').notNull(),
  arguments: jsonb('arguments').$type<unknown>().notNull(),
  argumentsHash: text('arguments_hash').notNull(),
  question: text('question'),
  choices: jsonb('choices').$type<readonly string[]>().notNull(),
  state: text('state').$type<ApprovalState>().notNull(),
  answer: text('answer'),
  comment: text('comment'),
  decidedBy: text('decided_by'),
  decidedVia: text('decided_via'),
  createdAt: moment('created_at').notNull(),
  expiresAt: moment('expires_at').notNull(),
  decidedAt: moment('decided_at'),
})

/** A row of it. */
export type ApprovalRow = typeof approvals.$inferSelect
