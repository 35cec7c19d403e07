/** The table of tickets. The ticket itself is nowhere; `hash` is its SHA-256 (it has 256 random bits). */
import { bigint, integer, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'
import type { Principal } from 'portico'

/** One row per ticket, until it is of no more use. */
export const tickets = pgTable('events_tickets', {
  hash: text('hash').primaryKey(),
  path: text('path').notNull(),
  /** As it was when the ticket was made: scopes are not looked up again. */
  principal: jsonb('principal').$type<Principal>().notNull(),
  /** `principal.via`: what revoking names. */
  via: text('via').notNull(),
  /** The version of the key that asked for it; null = of a credential that has none. */
  version: integer('version'),
  /** Rises with each stream it opens: only the newest may go on. */
  epoch: bigint('epoch', { mode: 'number' }).notNull().default(0),
  createdAt: timestamp('created_at', { withTimezone: true, mode: 'date' }).notNull(),
  /** Until when it opens a stream. */
  expiresAt: timestamp('expires_at', { withTimezone: true, mode: 'date' }).notNull(),
})
