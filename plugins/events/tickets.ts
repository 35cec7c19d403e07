/**
 * Tickets: what a browser, which can send no header with an EventSource or a WebSocket, puts into the URL instead of a key.
 *
 * A ticket opens one path as the principal who asked for it. It has to be used within 60 s; from then on it opens that stream again until the stream has been
 * closed for ten minutes, or the key it came from is revoked, rotated or changed. One stream at a time: a second use is refused while the first is open, unless
 * it says by `Last-Event-ID` that it is the same reader who comes back; then the older stream ends.
 */
import { createHash, randomBytes } from 'node:crypto'
import { and, count, eq, gt, inArray, isNull, lt, lte, or, sql } from 'drizzle-orm'
import { type AuthMethod, type AuthResult, type Clock, type Database, GatewayError, type Principal } from 'portico'
import { keyVersionOf } from 'portico/plugins/auth-token'
import { tickets } from './schema.ts'

/** ms in which a ticket has to be used first. */
export const firstUse = 60_000
/** ms after the end of its stream in which it may be used again. */
export const afterEnd = 600_000
/** Keys that changed lately, remembered for requests that came with them as they were. */
const mostLost = 1_000
/** Tickets of one credential that wait for their first use, or for the end of these ten minutes. */
const perCredential = 200
const sweepBatch = 500

/** What tickets need. */
export interface TicketsOptions {
  db: Database
  clock: Clock
}

/** The tickets of this gateway. */
export interface Tickets {
  /** Refused when the key of the request that asks has ended or changed meanwhile. */
  create(path: string, principal: Principal): Promise<{ ticket: string; expiresAt: Date }>
  readonly method: AuthMethod
  /** Refuses tickets to requests that are still on their way with a key older than this version; without one, with any. */
  lose(via: string, version?: number): void
  /** Kills the tickets of a key that are older than this version of it; without one, all. */
  forget(via: string, version?: number): Promise<void>
  /** Once a minute: keeps the tickets of open streams alive, ends streams whose ticket is gone or was taken over elsewhere, deletes what is over. */
  sweep(): Promise<void>
}

interface OpenStream {
  epoch: number
  close(): void
}

/** Makes the tickets. */
export function createTickets({ db, clock }: TicketsOptions): Tickets {
  const open = new Map<string, OpenStream>()
  const lost = new Map<string, number>()
  const in10Minutes = () => new Date(clock.now() + afterEnd)

  async function use(ticket: string, request: Request): Promise<AuthResult | null> {
    const hash = digest(ticket)
    if (open.has(hash) && !request.headers.get('last-event-id')) {
      throw new GatewayError('conflict', 'This ticket already has an open stream: ask POST /api/tickets for another one.')
    }
    const path = new URL(request.url).pathname
    const [row] = await db
      .update(tickets)
      .set({ epoch: sql`${tickets.epoch} + 1`, expiresAt: in10Minutes() })
      .where(and(eq(tickets.hash, hash), eq(tickets.path, path), gt(tickets.expiresAt, new Date(clock.now()))))
      .returning()
    if (row === undefined) return null
    return {
      principal: { ...row.principal },
      held(close) {
        const older = open.get(hash)
        const mine: OpenStream = { epoch: row.epoch, close }
        open.set(hash, mine)
        older?.close()
        return () => {
          if (open.get(hash) !== mine) return
          open.delete(hash)
          void keepAlive([[hash, row.epoch]]).catch(() => undefined)
        }
      },
    }
  }

  /** Ten more minutes for these; returns the hashes of those that still are what they were. */
  async function keepAlive(streams: readonly (readonly [hash: string, epoch: number])[]): Promise<Set<string>> {
    const rows = await db
      .update(tickets)
      .set({ expiresAt: in10Minutes() })
      .where(
        inArray(
          sql`${tickets.hash} || ':' || ${tickets.epoch}`,
          streams.map(([hash, epoch]) => `${hash}:${epoch}`),
        ),
      )
      .returning({ hash: tickets.hash })
    return new Set(rows.map(({ hash }) => hash))
  }

  function lose(via: string, version = Number.POSITIVE_INFINITY): void {
    const oldest = lost.size >= mostLost ? lost.keys().next() : undefined
    if (oldest && !oldest.done) lost.delete(oldest.value)
    lost.delete(via)
    lost.set(via, version)
  }

  function refuseLost(principal: Principal): void {
    if ((keyVersionOf(principal) ?? Number.NEGATIVE_INFINITY) < (lost.get(principal.via) ?? Number.NEGATIVE_INFINITY))
      throw new GatewayError('invalid_api_key', 'The credential was revoked or changed while the request came in.')
  }

  return {
    async create(path, principal) {
      refuseLost(principal)
      const { via } = principal
      const now = clock.now()
      const ticket = `tkt_${randomBytes(32).toString('base64url')}`
      const expiresAt = new Date(now + firstUse)
      const hash = digest(ticket)
      const row = { hash, path, principal: { ...principal }, via, version: keyVersionOf(principal) ?? null, createdAt: new Date(now), expiresAt }
      await db.transaction(async (tx) => {
        // Those of one credential one after the other: two that count at once would both find room for the last.
        await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`events_tickets ${via}`}, 0))`)
        const [living] = await tx
          .select({ total: count() })
          .from(tickets)
          .where(and(eq(tickets.via, via), gt(tickets.expiresAt, new Date(now))))
        if ((living?.total ?? 0) >= perCredential)
          throw new GatewayError('rate_limit_exceeded', `There are ${perCredential} tickets of this credential already: use those, or wait a minute.`, {
            retryAfter: 60,
          })
        await tx.insert(tickets).values(row)
      })
      try {
        refuseLost(principal)
      } catch (error) {
        await db.delete(tickets).where(eq(tickets.hash, hash))
        throw error
      }
      return { ticket, expiresAt }
    },

    method: { name: 'ticket', authenticate: ({ ticket, request }) => (ticket === undefined ? null : use(ticket, request)) },

    lose,

    async forget(via, version) {
      lose(via, version)
      const isOlder = version === undefined ? undefined : or(isNull(tickets.version), lt(tickets.version, version))
      await db.delete(tickets).where(and(eq(tickets.via, via), isOlder))
    },

    async sweep() {
      const streams = [...open]
      for (let from = 0; from < streams.length; from += sweepBatch) {
        const batch = streams.slice(from, from + sweepBatch)
        const alive = await keepAlive(batch.map(([hash, { epoch }]) => [hash, epoch] as const))
        for (const [hash, stream] of batch) if (!alive.has(hash) && open.get(hash) === stream) stream.close()
      }
      const over = db
        .select({ hash: tickets.hash })
        .from(tickets)
        .where(lte(tickets.expiresAt, new Date(clock.now())))
        .limit(sweepBatch)
      await db.delete(tickets).where(inArray(tickets.hash, over))
    },
  }
}

function digest(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url')
}
