/** The life of conversations: each belongs to one principal, for whom alone it exists. */
import { and, desc, eq, inArray, lt, or, type SQL, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Principal, type Transaction } from 'portico'
import { beginning, callOf, storable } from 'portico/plugins/database'
import type { Session, SessionMessage, SessionOwner } from './contract.ts'
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

/** What is kept of sessions. */
export type Sessions = ReturnType<typeof createSessions>

const titleLength = 60
/** ms. */
const forgetEvery = 1_000
const callDropOldest = callOf('runs_drop_oldest')
/** Characters of one page of messages; one that is longer alone comes alone. */
const longestPage = 4_000_000

/** What it works with. */
export interface SessionsOptions {
  readonly db: Database
  readonly bounds: SessionBounds
  readonly clock: Clock
  /** Aborted when the plugin ends. */
  readonly signal: AbortSignal
  /** Forgets what runs have left elsewhere. */
  forget(tx: Transaction, runId: string): Promise<void>
  onForgetError(error: unknown): void
}

/** Makes it. */
export function createSessions({ db, bounds, clock, signal, forget, onForgetError }: SessionsOptions) {
  const grown = new Map<string, Principal>()
  let isForgetting = false
  /** What is being forgotten now. */
  let atIt: Promise<void> = Promise.resolve()
  const own = ({ id }: Principal) => eq(sessions.principal, id)
  const byKey = (principal: Principal, key: string) => and(own(principal), or(eq(sessions.key, key), eq(sessions.id, key)))

  const self = {
    /** Undefined for a name that is not taken. @throws GatewayError `not_found` for an id sess_… that is not this principal's */
    async find(principal: Principal, key: string, on: Database | Transaction = db): Promise<SessionRow | undefined> {
      const [row] = await on.select().from(sessions).where(byKey(principal, key))
      if (!row && key.startsWith('sess_')) throw unknownSession(key)
      return row
    },

    /** Keeps a message of the user. */
    async say(tx: Transaction, sessionId: string, runId: string, text: string): Promise<void> {
      await tx.insert(messages).values({ sessionId, runId, role: 'user', text: storable(text), createdAt: new Date(clock.now()) })
      await tx.execute(callDropOldest(sessionId, bounds.maxMessages))
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

    /** Of one principal the sessions that were unused for longest go, soon: nobody who waits for an answer waits for this too, and who begins many waits once. */
    forgetUnused(principal: Principal): void {
      grown.set(principal.id, principal)
      if (!isForgetting) void forgetAll()
    },

    async list(principal: Principal, limit: number): Promise<Session[]> {
      await (grown.delete(principal.id) ? forgetSurplus(principal) : atIt)
      const rows = await db.select().from(sessions).where(own(principal)).orderBy(desc(sessions.updatedAt)).limit(limit)
      return rows.map(toSession)
    },

    async owners(limit: number): Promise<SessionOwner[]> {
      const latestAt = sql`max(${sessions.updatedAt})`.mapWith(sessions.updatedAt)
      return db
        .select({ principal: sessions.principal, sessions: sql<number>`count(*)::int`, latestAt })
        .from(sessions)
        .groupBy(sessions.principal)
        .orderBy(desc(latestAt))
        .limit(limit)
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

    /** Forgets sessions with all their runs, which must be over. How many of them there were. */
    async remove(tx: Transaction, ids: readonly string[]): Promise<number> {
      if (ids.length === 0) return 0
      const left = await tx
        .select({ id: runs.id })
        .from(runs)
        .where(inArray(runs.sessionId, [...ids]))
      for (const { id } of left) await forget(tx, id)
      const gone = await tx
        .delete(sessions)
        .where(inArray(sessions.id, [...ids]))
        .returning({ id: sessions.id })
      return gone.length
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

  async function forgetOf(all: readonly Principal[]): Promise<void> {
    for (const principal of all) await forgetSurplus(principal).catch(onForgetError)
  }

  async function forgetAll(): Promise<void> {
    isForgetting = true
    try {
      while (grown.size > 0) {
        await clock.sleep(forgetEvery, signal)
        const all = [...grown.values()]
        grown.clear()
        atIt = forgetOf(all)
        await atIt
      }
    } catch (error) {
      if (!signal.aborted) onForgetError(error)
    } finally {
      isForgetting = false
    }
  }

  /** None in which something is under way. */
  async function forgetSurplus(principal: Principal): Promise<void> {
    const isIdle = sql`not exists (select 1 from runs_runs r where r.session_id = ${sessions.id} and r.ended_at is null)`
    const surplus = db.select({ id: sessions.id }).from(sessions).where(own(principal)).orderBy(desc(sessions.updatedAt)).offset(bounds.maxSessions)
    const found = await db
      .select({ id: sessions.id })
      .from(sessions)
      .where(and(inArray(sessions.id, surplus), isIdle))
    const ids = found.map(({ id }) => id)
    if (ids.length === 0) return
    await db.transaction(async (tx) => {
      // Locked, so that nothing is begun in them meanwhile; what was, is left.
      const idle = await tx
        .select({ id: sessions.id })
        .from(sessions)
        .where(and(inArray(sessions.id, ids), isIdle))
        .for('update')
      await self.remove(
        tx,
        idle.map(({ id }) => id),
      )
    })
  }
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

/** As many images as the bound has room for, each in its place. */
export function keepable(images: readonly string[], bound: number): (string | null)[] {
  let room = bound
  return images.map((url) => {
    if (url.length > room) return null
    room -= url.length
    return storable(url)
  })
}

/** What a session is called that begins so. */
export function titleOf(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  return line.length <= titleLength ? storable(line) : `${beginning(line, titleLength - 1)}…`
}
