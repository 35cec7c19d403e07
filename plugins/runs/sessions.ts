/** The life of conversations: each belongs to one principal, for whom alone it exists. */
import { randomBytes } from 'node:crypto'
import { and, desc, eq, inArray, lt, or, type SQL, sql } from 'drizzle-orm'
import { type Database, GatewayError, type Principal, type Transaction } from 'portico'
import { beginning, storable } from 'portico/plugins/database'
import type { RunInput, RunSpec, Session, SessionMessage } from './contract.ts'
import { toSession } from './rows.ts'
import { activeStates, type MessageRow, messages, runs, type SessionRow, sessions } from './schema.ts'

/** How much is kept. */
export interface SessionBounds {
  readonly maxMessages: number
  readonly maxSessions: number
  readonly maxContext: number
  readonly maxImages: number
}

/** What was said before. */
export type Said = Pick<MessageRow, 'role' | 'text'>

/** Where a run goes. */
export interface Opening {
  readonly principal: Principal
  /** None = a new session. */
  readonly key?: string
  readonly spec: RunSpec
  readonly channel: string
  readonly text: string
}

/** What is kept of sessions. */
export type Sessions = ReturnType<typeof createSessions>

const titleLength = 60
/** Characters of one page of messages; one that is longer alone comes alone. */
const longestPage = 4_000_000

/** Makes it. `forget` forgets what runs have left elsewhere. */
export function createSessions(
  db: Database,
  bounds: SessionBounds,
  clock: { now(): number },
  forget: (tx: Transaction, runId: string) => Promise<void>,
  onForgetError: (error: unknown) => void,
) {
  let forgetting: Promise<void> = Promise.resolve()
  const own = ({ id }: Principal) => eq(sessions.principal, id)
  const byKey = (principal: Principal, key: string) => and(own(principal), or(eq(sessions.key, key), eq(sessions.id, key)))

  const self = {
    /** Undefined for a name that is not taken. @throws GatewayError `not_found` for an id sess_… that is not this principal's */
    async find(principal: Principal, key: string, on: Database | Transaction = db): Promise<SessionRow | undefined> {
      const [row] = await on.select().from(sessions).where(byKey(principal, key))
      if (!row && key.startsWith('sess_')) throw unknownSession(key)
      return row
    },

    /** The session, made if need be, its row locked: who comes at the same time waits. */
    async open(tx: Transaction, { principal, key, spec, channel, text }: Opening): Promise<{ session: SessionRow; isNew: boolean }> {
      const now = new Date(clock.now())
      const set = { model: spec.model, updatedAt: now, ttl: spec.sessionTtl ?? null }
      if (key?.startsWith('sess_')) {
        const [known] = await tx.update(sessions).set(set).where(byKey(principal, key)).returning()
        if (!known) throw unknownSession(key)
        return { session: known, isNew: false }
      }
      const id = `sess_${randomBytes(9).toString('hex')}`
      const values = { id, principal: principal.id, key: key ?? id, agent: spec.agent, title: titleOf(text), channel, createdAt: now, ...set }
      const [session] = await tx
        .insert(sessions)
        .values(values)
        .onConflictDoUpdate({ target: [sessions.principal, sessions.key], set })
        .returning()
      if (!session) throw new GatewayError('internal_error', 'The session was not stored: try again.')
      return { session, isNew: session.id === id }
    },

    /** Keeps a message of the user. */
    async say(tx: Transaction, sessionId: string, runId: string, { text, images = [] }: RunInput, isFirst = false): Promise<void> {
      const kept = images.length > 0 ? keepable(images, bounds.maxImages) : null
      await tx.insert(messages).values({ sessionId, runId, role: 'user', text: storable(text), images: kept, createdAt: new Date(clock.now()) })
      if (!isFirst) await dropOldestMessages(tx, sessionId, bounds.maxMessages)
    },

    /** What was said before a run: the newest that fit, the oldest of them first; never begins with an answer. */
    async before(sessionId: string, runId: string): Promise<Said[]> {
      const first = sql`coalesce((select min(id) from runs_messages where session_id = ${sessionId} and run_id = ${runId}), 9223372036854775807)`
      const rows = await newest(and(eq(messages.sessionId, sessionId), sql`${messages.id} < ${first}`), {
        limit: bounds.maxMessages,
        characters: bounds.maxContext,
      })
      const said = rows.map(({ message: { role, text } }) => ({ role, text })).filter(({ text }) => text !== '')
      const begin = said.findIndex(({ role }) => role === 'user')
      return begin < 0 ? [] : said.slice(begin)
    },

    /** Of one principal the sessions that were unused for longest go, soon: nobody who waits for an answer waits for this too. */
    forgetUnused(principal: Principal): void {
      forgetting = forgetting.then(() => db.transaction((tx) => forgetSurplus(tx, principal))).catch(onForgetError)
    },

    async list(principal: Principal, limit: number): Promise<Session[]> {
      await forgetting
      const rows = await db.select().from(sessions).where(own(principal)).orderBy(desc(sessions.updatedAt)).limit(limit)
      return rows.map(toSession)
    },

    async messages(
      principal: Principal,
      { sessionKey, channel, before, limit }: { sessionKey?: string; channel?: string; before?: number; limit: number },
    ): Promise<SessionMessage[]> {
      const wanted: (SQL | undefined)[] = [own(principal)]
      if (sessionKey !== undefined) wanted.push(byKey(principal, sessionKey))
      if (channel !== undefined) wanted.push(eq(sessions.channel, channel))
      if (before !== undefined) wanted.push(lt(messages.id, before))
      const rows = await newest(and(...wanted), { limit, characters: longestPage })
      return rows.reverse().map(({ message, session }) => toMessage(message, session))
    },

    /** Forgets sessions with all their runs, which must be over. */
    async remove(tx: Transaction, ids: readonly string[]): Promise<void> {
      if (ids.length === 0) return
      const left = await tx
        .select({ id: runs.id })
        .from(runs)
        .where(inArray(runs.sessionId, [...ids]))
      for (const { id } of left) await forget(tx, id)
      await tx.delete(sessions).where(inArray(sessions.id, [...ids]))
    },
  }
  return self

  /** The newest that fit, the oldest of them first. What does not fit is not read; the newest itself always fits. */
  async function newest(wanted: SQL | undefined, { limit, characters }: { limit: number; characters: number }) {
    const size = sql<number>`length(${messages.text}) + coalesce(length(${messages.images}::text), 0)`.as('size')
    const page = db
      .select({ id: messages.id, size })
      .from(messages)
      .innerJoin(sessions, eq(messages.sessionId, sessions.id))
      .where(wanted)
      .orderBy(desc(messages.id))
      .limit(limit)
      .as('page')
    const total = sql<number>`sum(${page.size}) over (order by ${page.id} desc)`.as('total')
    const summed = db.select({ id: page.id, size: page.size, total }).from(page).as('summed')
    const rows = await db
      .select({ message: messages, session: sessions })
      .from(summed)
      .innerJoin(messages, eq(messages.id, summed.id))
      .innerJoin(sessions, eq(messages.sessionId, sessions.id))
      .where(or(sql`${summed.total} <= ${characters}`, sql`${summed.total} = ${summed.size}`))
      .orderBy(desc(messages.id))
    return rows.reverse()
  }

  /** None in which something is under way. */
  async function forgetSurplus(tx: Transaction, principal: Principal): Promise<void> {
    const isIdle = sql`not exists (select 1 from runs_runs r where r.session_id = ${sessions.id} and r.ended_at is null)`
    const surplus = tx.select({ id: sessions.id }).from(sessions).where(own(principal)).orderBy(desc(sessions.updatedAt)).offset(bounds.maxSessions)
    const idle = await tx
      .select({ id: sessions.id })
      .from(sessions)
      .where(and(inArray(sessions.id, surplus), isIdle))
    await self.remove(
      tx,
      idle.map(({ id }) => id),
    )
  }
}

/** A session keeps its newest messages. */
export async function dropOldestMessages(tx: Transaction, sessionId: string, maxMessages: number): Promise<void> {
  const surplus = sql`(select id from runs_messages where session_id = ${sessionId} order by id desc limit 1 offset ${maxMessages})`
  await tx.delete(messages).where(and(eq(messages.sessionId, sessionId), sql`${messages.id} <= ${surplus}`))
}

/** The session's runs that are not over. */
export async function activeRuns(db: Database | Transaction, sessionId: string): Promise<{ id: string; state: string }[]> {
  return db
    .select({ id: runs.id, state: runs.state })
    .from(runs)
    .where(and(eq(runs.sessionId, sessionId), inArray(runs.state, [...activeStates])))
    .orderBy(runs.seq)
}

/** Says that there is none. */
export function unknownSession(key: string): GatewayError {
  return new GatewayError('not_found', `There is no session ${JSON.stringify(key.slice(0, 100))}: GET /api/chat/sessions lists yours.`, { param: 'sessionKey' })
}

function toMessage({ id, runId, role, text, images, model, finishReason, createdAt }: MessageRow, { key, channel }: SessionRow): SessionMessage {
  return { id, sessionKey: key, channel, runId, role, text, images: images ?? [], model, finishReason, createdAt }
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
