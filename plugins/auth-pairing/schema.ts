/** The table of the pairing code. The code itself is nowhere; `hash` is its salted SHA-256: it lives ten minutes and five attempts, so guessing it back comes too late. */
import { pgTable, smallint, text, timestamp } from 'drizzle-orm/pg-core'

/** One row: a new code takes the place of the one before. In the database, so that any node takes it, and its attempts count once. */
export const codes = pgTable('auth_pairing_codes', {
  id: smallint('id').primaryKey(),
  salt: text('salt').notNull(),
  hash: text('hash').notNull(),
  attempts: smallint('attempts').notNull().default(0),
  expiresAt: timestamp('expires_at', { withTimezone: true, mode: 'date' }).notNull(),
  usedAt: timestamp('used_at', { withTimezone: true, mode: 'date' }),
})
