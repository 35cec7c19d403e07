/** The table of keys. The secret itself is nowhere; `hash` is its Argon2id. */
import { integer, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'

const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })

/** One row per key; revoked ones stay, so that what they did keeps its name. */
export const keys = pgTable('auth_token_keys', {
  id: text('id').primaryKey(),
  prefix: text('prefix').notNull().unique(),
  hash: text('hash').notNull(),
  name: text('name').notNull(),
  kind: text('kind').$type<KeyKind>().notNull(),
  owner: text('owner'),
  scopes: jsonb('scopes').$type<string[]>().notNull(),
  quotaDaily: integer('quota_daily'),
  createdAt: moment('created_at').notNull(),
  createdBy: text('created_by').notNull(),
  expiresAt: moment('expires_at'),
  /** When its expiry was announced. */
  expiredAt: moment('expired_at'),
  rotatedAt: moment('rotated_at'),
  lastUsedAt: moment('last_used_at'),
  revokedAt: moment('revoked_at'),
  /** Rises with each change after which what was opened with the key must end. */
  version: integer('version').notNull().default(0),
})

/** The kinds a key may be of. */
export const keyKinds = ['user', 'agent', 'service', 'device'] as const
/** A kind of `keyKinds`. */
export type KeyKind = (typeof keyKinds)[number]
/** A row of the table. */
export type KeyRow = typeof keys.$inferSelect
