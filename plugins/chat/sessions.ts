/** The life of conversations: each belongs to one principal, for whom alone it exists. */
import { randomBytes } from 'node:crypto'
import { and, desc, eq, inArray, lt, type SQL, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Principal, type Transaction } from 'portico'
import { type MessageRow, messages, type SessionRow, sessions } from './schema.ts'

/** How much is kept. */
export interface Bounds {
  /** Messages of one session. */
  readonly maxMessages: number
  /** Sessions of one principal. */
  readonly maxSessions: number
}

/** Where a message goes. */
export interface Opening {
  readonly principal: Principal
  /** None = a new session. */
  readonly sessionKey?: string
  readonly model: string
  readonly channelId: string
  readonly text: string
}

/** What the plugin keeps. */
export interface Sessions {
  /** The session of the key, or undefined. @throws GatewayError `not_found` for an id sess_… that is not this principal's */
  find(principal: Principal, key: string): Promise<SessionRow | undefined>
  /** Stores the user's message in its session, which it makes if need be; `also` runs in the same transaction. Gives what was said before. */
  begin(opening: Opening, also: (session: SessionRow, tx: Transaction) => Promise<void>): Promise<{ session: SessionRow; earlier: MessageRow[] }>
  /** Stores the answer; `also` runs in the same transaction. An answer to a session that is gone is gone too. */
  finish(session: SessionRow, answer: { text: string; model: string; finishReason: string }, also: (tx: Transaction) => Promise<void>): Promise<void>
  list(principal: Principal, limit: number): Promise<SessionRow[]>
  /** The newest messages of a principal, oldest first. */
  history(principal: Principal, query: HistoryQuery): Promise<{ message: MessageRow; session: SessionRow }[]>
  /** @throws GatewayError `not_found` */
  remove(principal: Principal, key: string): Promise<SessionRow>
}

/** Which messages. */
export interface HistoryQuery {
  readonly sessionKey?: string
  readonly channelId?: string
  readonly limit: number
  /** An id of a message: older ones only. */
  readonly before?: number
}

const titleLength = 60

/** Makes it. */
export function createSessions(db: Database, clock: Clock, bounds: Bounds): Sessions {
  const ofPrincipal = ({ id }: Principal) => eq(sessions.principal, id)
  const byKey = (principal: Principal, key: string) => and(ofPrincipal(principal), eq(sessions.key, key))

  const self: Sessions = {
    async find(principal, key) {
      const [row] = await db.select().from(sessions).where(byKey(principal, key))
      if (!row && key.startsWith('sess_')) throw unknownSession(key)
      return row
    },

    async begin({ principal, sessionKey, model, channelId, text }, also) {
      const now = new Date(clock.now())
      return db.transaction(async (tx) => {
        const id = `sess_${randomBytes(9).toString('hex')}`
        const values = { id, principal: principal.id, key: sessionKey ?? id, title: titleOf(text), model, channel: channelId, createdAt: now, updatedAt: now }
        const [session] = await tx
          .insert(sessions)
          .values(values)
          .onConflictDoUpdate({ target: [sessions.principal, sessions.key], set: { model, updatedAt: now } })
          .returning()
        if (!session) throw new GatewayError('internal_error', 'The session was not stored: try again.')
        const earlier = await tx.select().from(messages).where(eq(messages.sessionId, session.id)).orderBy(desc(messages.id)).limit(bounds.maxMessages)
        await tx.insert(messages).values({ sessionId: session.id, role: 'user', content: text, createdAt: now })
        if (session.id === id) await dropOldest(tx, principal)
        await also(session, tx)
        return { session, earlier: earlier.reverse() }
      })
    },

    async finish(session, { text, model, finishReason }, also) {
      const now = new Date(clock.now())
      await db.transaction(async (tx) => {
        const [living] = await tx.update(sessions).set({ updatedAt: now }).where(eq(sessions.id, session.id)).returning()
        if (!living) return
        await tx.insert(messages).values({ sessionId: session.id, role: 'assistant', content: text, model, finishReason, createdAt: now })
        const newest = tx
          .select({ id: messages.id })
          .from(messages)
          .where(eq(messages.sessionId, session.id))
          .orderBy(desc(messages.id))
          .limit(1)
          .offset(bounds.maxMessages)
        await tx.delete(messages).where(and(eq(messages.sessionId, session.id), sql`${messages.id} <= (${newest})`))
        await also(tx)
      })
    },

    list: (principal, limit) => db.select().from(sessions).where(ofPrincipal(principal)).orderBy(desc(sessions.updatedAt)).limit(limit),

    async history(principal, { sessionKey, channelId, limit, before }) {
      const wanted: (SQL | undefined)[] = [ofPrincipal(principal)]
      if (sessionKey !== undefined) wanted.push(eq(sessions.key, sessionKey))
      if (channelId !== undefined) wanted.push(eq(sessions.channel, channelId))
      if (before !== undefined) wanted.push(lt(messages.id, before))
      const rows = await db
        .select({ message: messages, session: sessions })
        .from(messages)
        .innerJoin(sessions, eq(messages.sessionId, sessions.id))
        .where(and(...wanted))
        .orderBy(desc(messages.id))
        .limit(limit)
      return rows.reverse()
    },

    async remove(principal, key) {
      const [row] = await db.delete(sessions).where(byKey(principal, key)).returning()
      if (!row) throw unknownSession(key)
      return row
    },
  }
  return self

  async function dropOldest(tx: Transaction, principal: Principal): Promise<void> {
    const surplus = tx.select({ id: sessions.id }).from(sessions).where(ofPrincipal(principal)).orderBy(desc(sessions.updatedAt)).offset(bounds.maxSessions)
    await tx.delete(sessions).where(inArray(sessions.id, surplus))
  }
}

function titleOf(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  return line.length <= titleLength ? line : `${line.slice(0, titleLength - 1)}…`
}

function unknownSession(key: string): GatewayError {
  return new GatewayError('not_found', `There is no session ${JSON.stringify(key.slice(0, 100))}: GET /api/chat/sessions lists yours.`, { param: 'sessionKey' })
}
