/** The table of agents that were made by the API; those of the config stand in the config. */
import { jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'
import type { AgentSpec } from './contract.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' }).notNull()

/** One row per agent. */
export const agents = pgTable('agents_agents', {
  id: text('id').primaryKey(),
  spec: jsonb('spec').$type<AgentSpec>().notNull(),
  createdBy: text('created_by').notNull(),
  createdAt: moment('created_at'),
  updatedAt: moment('updated_at'),
})
