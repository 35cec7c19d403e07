/** The life of the pairing code: made at random, good for ten minutes, five attempts and one device. */
import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'
import { and, eq, gt, isNull, lt, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError } from 'portico'
import { codes } from './schema.ts'

/** ms that a code is good for. */
export const lifetime = 600_000
/** Wrong codes after which the code is dead. */
export const maxAttempts = 5

// 40 bits. Without the letters and digits that are taken for one another.
const alphabet = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'
const length = 8

/** The one code of this gateway. */
export interface Codes {
  /** Makes a code; the one before is dead. */
  renew(): Promise<{ code: string; expiresAt: Date }>
  /**
   * Takes the code: from now on it is used. Gives what makes it good again, for when the device's key could not be made.
   * @throws GatewayError 401 when there is none that is good, 403 when this is not it
   */
  take(given: string): Promise<() => Promise<void>>
}

/** Makes the codes. */
export function createCodes(db: Database, clock: Clock): Codes {
  return {
    async renew() {
      const code = Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('')
      const salt = randomBytes(16).toString('base64url')
      const expiresAt = new Date(clock.now() + lifetime)
      const row = { id: 1, salt, hash: digest(salt, code).toString('base64url'), attempts: 0, expiresAt, usedAt: null }
      await db.insert(codes).values(row).onConflictDoUpdate({ target: codes.id, set: row })
      return { code: `${code.slice(0, 4)}-${code.slice(4)}`, expiresAt }
    },

    async take(given) {
      const now = new Date(clock.now())
      // Counted before it is compared, in one statement: a thousand guesses at once are five attempts too.
      const [row] = await db
        .update(codes)
        .set({ attempts: sql`${codes.attempts} + 1` })
        .where(and(isNull(codes.usedAt), gt(codes.expiresAt, now), lt(codes.attempts, maxAttempts)))
        .returning()
      if (!row)
        throw new GatewayError(
          'missing_credentials',
          'No pairing code is waiting: it was used, is over ten minutes old, or had five wrong attempts. Make a new one: portico pair',
        )
      if (!timingSafeEqual(digest(row.salt, normalise(given)), Buffer.from(row.hash, 'base64url'))) throw wrongCode(maxAttempts - row.attempts)
      const [taken] = await db
        .update(codes)
        .set({ usedAt: now })
        .where(and(isNull(codes.usedAt), eq(codes.hash, row.hash)))
        .returning()
      if (!taken) throw new GatewayError('missing_credentials', 'Another device has used this pairing code in the meantime. Make a new one: portico pair')
      return async () => void (await db.update(codes).set({ usedAt: null }).where(eq(codes.hash, row.hash)))
    },
  }
}

function wrongCode(left: number): GatewayError {
  const next = left > 0 ? `${left} more ${left === 1 ? 'attempt' : 'attempts'}, then it is dead.` : 'It is dead now. Make a new one: portico pair'
  return new GatewayError('forbidden', `This is not the pairing code. ${next}`, { param: 'X-Pairing-Code', security: 'auth_failures' })
}

/** As people type it: any case, with or without the dash. */
function normalise(given: string): string {
  return given.toUpperCase().replace(/[\s-]/g, '')
}

function digest(salt: string, code: string): Buffer {
  return createHash('sha256').update(`${salt} ${code}`).digest()
}
