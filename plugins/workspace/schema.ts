/** The table of staged files: what stood there, what is to stand there, and how far it has come. */
import { boolean, customType, integer, pgTable, text, timestamp, unique } from 'drizzle-orm/pg-core'

const bytea = customType<{ data: Uint8Array; driverData: Buffer }>({ dataType: () => 'bytea', toDriver: (value) => Buffer.from(value) })

/** `applying` and `undoing` are the journal: written before the first file is touched, so that whoever comes after a crash knows what was begun. */
export type ArtifactState = 'staged' | 'applying' | 'applied' | 'undoing' | 'undone' | 'discarded'

/** One row for each path that a run has staged. */
export const artifacts = pgTable(
  'workspace_artifacts',
  {
    id: text('id').primaryKey(),
    runId: text('run_id').notNull(),
    path: text('path').notNull(),
    state: text('state').$type<ArtifactState>().notNull(),
    /** SHA-256, hex; null where there is no file. */
    before: text('before_hash'),
    after: text('after_hash'),
    /** Of the new content. */
    size: integer('size').notNull(),
    isBinary: boolean('is_binary').notNull(),
    diff: text('diff').notNull(),
    beforeContent: bytea('before_content'),
    afterContent: bytea('after_content'),
    /** Of the file that stood there: its permissions are kept. */
    mode: integer('mode'),
    createdAt: timestamp('created_at', { withTimezone: true, mode: 'date' }).notNull(),
  },
  (table) => [unique().on(table.runId, table.path)],
)

/** A row of the table. */
export type ArtifactRow = typeof artifacts.$inferSelect
