/** The auth method `token`: keys of the table, and the tokens that stand in the config. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import { type AuthMethod, type AuthResult, type Clock, type Database, GatewayError } from 'portico'
import { setKeyVersion, viaOfKey } from './contract.ts'
import { isUsable } from './keys.ts'
import type { Remembered } from './remembered.ts'
import { type KeyKind, type KeyRow, keys } from './schema.ts'
import { parseKey, type Verifier } from './secrets.ts'

/** A token of the config, its secret resolved. */
export interface ConfiguredToken {
  id: string
  secret: string
  scopes: readonly string[]
  kind: KeyKind
}

/** What the method needs. */
export interface TokenMethodOptions {
  db: Database
  clock: Clock
  tokens: readonly ConfiguredToken[]
  verifier: Verifier
  /** Answers for the database while that is away. */
  remembered: Remembered
  isConnectionError(error: unknown): boolean
  /** Told of each authentication that reached the table. */
  used(id: string): void
}

/** ms for which the kernel may reuse an answer. */
const reuse = 60_000
/** Keys that need Argon2 no more. */
const mostProven = 10_000

/** Makes the method. It answers null for every other credential, wrong keys too: the kernel refuses them, and counts them against their address. */
export function createTokenMethod({ db, clock, tokens, verifier, remembered, isConnectionError, used }: TokenMethodOptions): AuthMethod {
  /** Digests of keys, each with the Argon2id it was found to fit. */
  const proven = new Map<string, string>()
  const configured = tokens.map((token) => ({ digest: digest(token.secret), result: principalOfConfig(token) }))
  const read = async (prefix: string): Promise<KeyRow | undefined> => (await db.select().from(keys).where(eq(keys.prefix, prefix)))[0]

  /** Asks the table; Argon2 only for a key that it has not been asked for. */
  async function look(prefix: string, secret: string, digest: string): Promise<{ row: KeyRow; principal: AuthResult['principal'] } | null> {
    const fits = proven.get(digest)
    // A flood of wrong keys does not get as far as the table.
    if (fits === undefined) verifier.assertRoom()
    const row = await read(prefix)
    if (!row || !isUsable(row, clock.now())) return null
    const isProven = fits === row.hash
    if (!isProven && !(await verifier.verify(row.hash, secret))) return null
    // Read again: it may have been revoked or rotated while Argon2 was at work, and the answer is kept for a minute.
    const now = isProven ? row : await read(prefix)
    if (!now || now.hash !== row.hash || !isUsable(now, clock.now())) return null
    proven.delete(digest)
    proven.set(digest, now.hash)
    if (proven.size > mostProven) proven.delete(proven.keys().next().value ?? digest)
    const principal = { id: now.owner ?? now.id, kind: now.kind, scopes: now.scopes, groups: [], via: viaOfKey(now.id) }
    setKeyVersion(principal, now.version)
    return { row: now, principal }
  }

  return {
    name: 'token',
    async authenticate({ token }): Promise<AuthResult | null> {
      if (token === undefined) return null
      const presented = digest(token)
      let match: AuthResult['principal'] | undefined
      for (const { digest: expected, result } of configured) if (timingSafeEqual(presented, expected)) match = result
      if (match) return { principal: match, cacheUntil: clock.now() + reuse }

      const parts = parseKey(token)
      if (!parts) return null
      const known = presented.toString('base64')
      const { epoch } = remembered
      try {
        const found = await look(parts.prefix, parts.secret, known)
        if (!found) {
          remembered.drop(known)
          return null
        }
        const { row, principal } = found
        used(row.id)
        if (epoch === remembered.epoch) remembered.note(known, { principal, expiresAt: row.expiresAt })
        return { principal, cacheUntil: Math.min(clock.now() + reuse, row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY) }
      } catch (cause) {
        if (!isConnectionError(cause)) throw cause
        const before = remembered.find(known)
        if (before) return before
        throw unavailable(cause)
      }
    },
  }
}

/** When keys were last used: kept in memory and written in batches, so that no request waits for it. */
export interface KeyUse {
  used(id: string): void
  flush(): Promise<void>
}

/** Makes the note of use. At most 10,000 keys are noted between two flushes. */
export function createKeyUse(db: Database, clock: Clock): KeyUse {
  let noted = new Map<string, string>()
  return {
    used(id) {
      if (noted.size < 10_000 || noted.has(id)) noted.set(id, new Date(clock.now()).toISOString())
    },
    async flush() {
      if (noted.size === 0) return
      const batch = noted
      noted = new Map()
      try {
        await store(batch)
      } catch (error) {
        for (const [id, at] of batch) if (!noted.has(id)) noted.set(id, at)
        throw error
      }
    },
  }

  async function store(batch: ReadonlyMap<string, string>): Promise<void> {
    const rows = JSON.stringify([...batch].map(([id, at]) => ({ id, at })))
    await db.execute(
      sql`update auth_token_keys set last_used_at = used.at from jsonb_to_recordset(${rows}::jsonb) as used(id text, at timestamptz) where auth_token_keys.id = used.id`,
    )
  }
}

function principalOfConfig({ id, kind, scopes }: ConfiguredToken): AuthResult['principal'] {
  return { id, kind, scopes, groups: [], via: viaOfKey(id) }
}

function unavailable(cause: unknown): GatewayError {
  return new GatewayError('database_unavailable', 'The key cannot be checked: the database does not answer. Try again.', { cause, retryAfter: 2 })
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
