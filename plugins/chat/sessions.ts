/** The life of conversations: each belongs to one principal, for whom alone it exists. */
import { randomBytes } from 'node:crypto'
import { and, desc, eq, inArray, lt, or, type SQL, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Principal, type Transaction } from 'portico'
import { type MessageRow, messages, type SessionRow, sessions } from './schema.ts'
import { beginning, storable } from './storable.ts'

/** How much is kept. */
export interface Bounds {
  /** Messages of one session. */
  readonly maxMessages: number
  /** Sessions of one principal. */
  readonly maxSessions: number
  /** Characters of what was said before that go along with a message: the newest. */
  readonly maxContext: number
  /** Characters of one message's images, their URLs, that are kept. */
  readonly maxImages: number
}

/** What was said before. */
export type Said = Pick<MessageRow, 'role' | 'content'>

/** Where a message goes. */
export interface Opening {
  readonly principal: Principal
  /** None = a new session. */
  readonly sessionKey?: string
  readonly model: string
  readonly channelId: string
  readonly text: string
  readonly images: readonly string[]
}

/** What the plugin keeps. */
export interface Sessions {
  /** The session of the key, or undefined. @throws GatewayError `not_found` for an id sess_… that is not this principal's */
  find(principal: Principal, key: string): Promise<SessionRow | undefined>
  /** Stores the user's message in its session, which it makes if need be; `also` runs in the same transaction. Gives what was said before. */
  begin(opening: Opening, also: (session: SessionRow, tx: Transaction) => Promise<void>): Promise<{ session: SessionRow; earlier: Said[] }>
  /** Stores the answer; `also` runs in the same transaction. An answer to a session that is gone is gone too. */
  finish(session: SessionRow, answer: { text: string; model: string; finishReason: string }, also: (tx: Transaction) => Promise<void>): Promise<void>
  list(principal: Principal, limit: number): Promise<SessionRow[]>
  /** The newest messages of a principal, oldest first: at most `limit`, and fewer when they are long, so that an answer has a size. */
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
/** Characters of one page of the history; a message that is longer alone comes alone. */
const longestPage = 4_000_000

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

    async begin({ principal, sessionKey, model, channelId, text, images }, also) {
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
        const earlier = await newest(tx, eq(messages.sessionId, session.id), { limit: bounds.maxMessages, characters: bounds.maxContext })
        const kept = images.length > 0 ? keepable(images, bounds.maxImages) : null
        await tx.insert(messages).values({ sessionId: session.id, role: 'user', content: storable(text), images: kept, createdAt: now })
        await dropOldestMessages(tx, session)
        if (session.id === id) await dropOldest(tx, principal)
        await also(session, tx)
        return { session, earlier: earlier.map(({ message: { role, content } }) => ({ role, content })) }
      })
    },

    async finish(session, { text, model, finishReason }, also) {
      const now = new Date(clock.now())
      await db.transaction(async (tx) => {
        const [living] = await tx.update(sessions).set({ updatedAt: now }).where(eq(sessions.id, session.id)).returning()
        if (!living) return
        await tx.insert(messages).values({ sessionId: session.id, role: 'assistant', content: storable(text), model, finishReason, createdAt: now })
        await dropOldestMessages(tx, session)
        await also(tx)
      })
    },

    list: (principal, limit) => db.select().from(sessions).where(ofPrincipal(principal)).orderBy(desc(sessions.updatedAt)).limit(limit),

    async history(principal, { sessionKey, channelId, limit, before }) {
      const wanted: (SQL | undefined)[] = [ofPrincipal(principal)]
      if (sessionKey !== undefined) wanted.push(eq(sessions.key, sessionKey))
      if (channelId !== undefined) wanted.push(eq(sessions.channel, channelId))
      if (before !== undefined) wanted.push(lt(messages.id, before))
      return newest(db, and(...wanted), { limit, characters: longestPage })
    },

    async remove(principal, key) {
      const [row] = await db.delete(sessions).where(byKey(principal, key)).returning()
      if (!row) throw unknownSession(key)
      return row
    },
  }
  return self

  /** The newest that fit, the oldest of them first. What does not fit is not read; the newest itself always fits. */
  async function newest(on: Database | Transaction, wanted: SQL | undefined, { limit, characters }: { limit: number; characters: number }) {
    const size = sql<number>`length(${messages.content}) + coalesce(length(${messages.images}::text), 0)`.as('size')
    const page = on
      .select({ id: messages.id, size })
      .from(messages)
      .innerJoin(sessions, eq(messages.sessionId, sessions.id))
      .where(wanted)
      .orderBy(desc(messages.id))
      .limit(limit)
      .as('page')
    const total = sql<number>`sum(${page.size}) over (order by ${page.id} desc)`.as('total')
    const summed = on.select({ id: page.id, size: page.size, total }).from(page).as('summed')
    const rows = await on
      .select({ message: messages, session: sessions })
      .from(summed)
      .innerJoin(messages, eq(messages.id, summed.id))
      .innerJoin(sessions, eq(messages.sessionId, sessions.id))
      .where(or(sql`${summed.total} <= ${characters}`, sql`${summed.total} = ${summed.size}`))
      .orderBy(desc(messages.id))
    return rows.reverse()
  }

  async function dropOldestMessages(tx: Transaction, session: SessionRow): Promise<void> {
    const surplus = tx
      .select({ id: messages.id })
      .from(messages)
      .where(eq(messages.sessionId, session.id))
      .orderBy(desc(messages.id))
      .limit(1)
      .offset(bounds.maxMessages)
    await tx.delete(messages).where(and(eq(messages.sessionId, session.id), sql`${messages.id} <= (${surplus})`))
  }

  async function dropOldest(tx: Transaction, principal: Principal): Promise<void> {
    const surplus = tx.select({ id: sessions.id }).from(sessions).where(ofPrincipal(principal)).orderBy(desc(sessions.updatedAt)).offset(bounds.maxSessions)
    await tx.delete(sessions).where(inArray(sessions.id, surplus))
  }
}

/** As many as the bound has room for, each in its place. */
function keepable(images: readonly string[], bound: number): (string | null)[] {
  let room = bound
  return images.map((url) => {
    if (url.length > room) return null
    room -= url.length
    return storable(url)
  })
}

function titleOf(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  return line.length <= titleLength ? storable(line) : `${beginning(line, titleLength - 1)}…`
}

function unknownSession(key: string): GatewayError {
  return new GatewayError('not_found', `There is no session ${JSON.stringify(key.slice(0, 100))}: GET /api/chat/sessions lists yours.`, { param: 'sessionKey' })
}
