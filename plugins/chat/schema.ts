/** The tables of conversations. */
import { bigint, jsonb, pgTable, text, timestamp, unique } from 'drizzle-orm/pg-core'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' }).notNull()

/** One row per conversation of a principal. `key` is what the caller names it by: the id, or a name of its own. */
export const sessions = pgTable(
  'chat_sessions',
  {
    id: text('id').primaryKey(),
    principal: text('principal').notNull(),
    key: text('key').notNull(),
    title: text('title').notNull(),
    /** Of the latest turn. */
    model: text('model').notNull(),
    channel: text('channel').notNull(),
    createdAt: moment('created_at'),
    updatedAt: moment('updated_at'),
  },
  (table) => [unique().on(table.principal, table.key)],
)

/** Its messages, in the order in which they came. */
export const messages = pgTable('chat_messages', {
  id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  sessionId: text('session_id').notNull(),
  role: text('role').$type<'user' | 'assistant'>().notNull(),
  content: text('content').notNull(),
  /** Of a user's message, as they were sent; null in the place of one that was too large to keep. */
  images: jsonb('images').$type<(string | null)[]>(),
  model: text('model'),
  /** Of an answer: `stop`, `length`, what else the provider says, or `cancelled` and `error` for one that is not whole. */
  finishReason: text('finish_reason'),
  createdAt: moment('created_at'),
})

/** A row of the table. */
export type SessionRow = typeof sessions.$inferSelect
/** A row of the table. */
export type MessageRow = typeof messages.$inferSelect
