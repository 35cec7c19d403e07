/** The life of keys: made, changed, rotated, revoked, expired. Each change and its event are one transaction. */
import { randomBytes, randomUUID } from 'node:crypto'
import { and, count, desc, eq, gt, isNull, lte, or, sql } from 'drizzle-orm'
import {
  type Clock,
  contextOf,
  type Database,
  GatewayError,
  hasScope,
  type Kernel,
  nearestName,
  type PluginContext,
  type Principal,
  type Transaction,
} from 'portico'
import { type DeviceKeys, endsConnections, keyChanged, keyCreated, keyRevoked, keyRotated, viaOfKey } from './contract.ts'
import { type KeyKind, type KeyRow, keys } from './schema.ts'
import { newSecret } from './secrets.ts'

/** The event types this plugin owns. */
export const keyEvents = [keyCreated, keyChanged, keyRotated, keyRevoked] as const
type KeyEvent = (typeof keyEvents)[number]

/** What the life of keys needs of the gateway. */
export interface KeysOptions {
  db: Database
  clock: Clock
  kernel: Pick<Kernel, 'revoke' | 'scopes'>
  publish: PluginContext<unknown, typeof keyEvents>['publish']
}

/** Who changes a key, through which request. */
export interface Actor {
  principal: Principal
  request?: Request
}

/** What a new key is made of. */
export interface KeyDraft {
  name?: string
  scopes?: readonly string[]
  kind?: KeyKind
  owner?: string
  expiresAt?: string | null
  quotaDaily?: number | null
}

/** What may be changed; absent = stays, null = none. */
export type KeyPatch = Pick<KeyDraft, 'name' | 'scopes' | 'expiresAt' | 'quotaDaily'>

/** A page of keys, newest first. `cursor` is opaque, and continues after the page it came with. */
export interface KeyPage {
  limit: number
  offset: number
  cursor?: string
  revoked: boolean
}

/** The keys of this gateway. */
export interface Keys {
  create(draft: KeyDraft, actor: Actor): Promise<{ row: KeyRow; key: string }>
  list(page: KeyPage): Promise<{ rows: KeyRow[]; total: number; cursor: string | null }>
  get(id: string): Promise<KeyRow>
  change(id: string, patch: KeyPatch, actor: Actor): Promise<KeyRow>
  /** A new secret under the same prefix; the old one is dead when this settles. */
  rotate(id: string, actor: Actor): Promise<{ row: KeyRow; key: string }>
  revoke(id: string, actor: Actor): Promise<KeyRow>
  /** Announces the keys whose time is over (100 at a time), so that their streams end too. */
  expire(): Promise<void>
  /** A change made somewhere: ends the key's connections here, unless this very node made it and has done so. */
  heard(event: { id: string; change: string; changed?: readonly string[] }): void
}

const rememberedChanges = 1_000
const changeable = ['name', 'scopes', 'expiresAt', 'quotaDaily'] as const

/** Makes the keys. */
export function createKeys({ db, clock, kernel, publish }: KeysOptions): Keys {
  const doneHere = new Set<string>()

  const announce = (
    ref: KeyEvent,
    row: KeyRow,
    by: string,
    tx: Transaction,
    more: { request?: Request; reason?: string; change?: string; changed?: string[] } = {},
  ) =>
    publish(
      ref,
      {
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        kind: row.kind,
        owner: row.owner,
        scopes: row.scopes,
        by,
        reason: more.reason,
        change: more.change ?? randomUUID(),
        version: row.version,
        changed: more.changed,
      },
      { tx, subject: row.id, request: more.request },
    )

  /** The caller as it is now: its key may have died since its request began, and a body can be sent slowly. */
  async function livingGranter({ principal, request }: Actor, tx: Transaction): Promise<Principal> {
    const id = idOfVia(principal.via)
    if (id === undefined) return principal
    const [row] = await tx.select().from(keys).where(eq(keys.id, id))
    const isRotated = row?.rotatedAt && request && contextOf(request).startedAt < row.rotatedAt.getTime()
    if (!row || !isUsable(row, clock.now()) || isRotated) throw new GatewayError('invalid_api_key', 'The credential was revoked while the request came in.')
    const granter = { ...principal, scopes: row.scopes }
    if (!hasScope(granter, 'admin')) throw new GatewayError('insufficient_scope', 'The credential lost the scope "admin" while the request came in.')
    return granter
  }

  /** One change of a living key: its event in the same transaction, then its connections end, unless only its name or quota is another. */
  async function alter(id: string, ref: KeyEvent, actor: Actor, values: (row: KeyRow, granter: Principal) => Partial<KeyRow>): Promise<KeyRow> {
    const change = randomUUID()
    if (doneHere.size >= rememberedChanges) doneHere.clear()
    doneHere.add(change)
    let changed: string[] | undefined
    const row = await db.transaction(async (tx) => {
      const granter = await livingGranter(actor, tx)
      const [before] = await tx
        .select()
        .from(keys)
        .where(and(eq(keys.id, id), isNull(keys.revokedAt)))
        .for('update')
      if (!before) throw unknownKey(id)
      const wanted = values(before, granter)
      if (ref === keyChanged) changed = changeable.filter((field) => field in wanted && JSON.stringify(before[field]) !== JSON.stringify(wanted[field]))
      const version = before.version + (endsConnections({ changed }) ? 1 : 0)
      const [after] = await tx
        .update(keys)
        .set({ ...wanted, version })
        .where(eq(keys.id, id))
        .returning()
      if (!after) throw unknownKey(id)
      if (changed?.length !== 0) await announce(ref, after, actor.principal.id, tx, { request: actor.request, change, changed })
      return after
    })
    if (endsConnections({ changed })) kernel.revoke(viaOfKey(id))
    return row
  }

  const self: Keys = {
    async create(draft, actor) {
      const kind = draft.kind ?? 'user'
      const scopes = [...new Set(draft.scopes ?? presetScopes(kind, knownScopes(kernel)))]
      assertGrantable(actor.principal, scopes, kind, knownScopes(kernel))
      const expiresAt = toExpiry(draft.expiresAt, clock) ?? null
      const { prefix, key, hash } = await newSecret()
      const row = await db.transaction(async (tx) => {
        assertGrantable(await livingGranter(actor, tx), scopes, kind)
        const [made] = await tx
          .insert(keys)
          .values({
            id: `key_${randomBytes(9).toString('hex')}`,
            prefix,
            hash,
            name: draft.name ?? prefix,
            kind,
            owner: draft.owner ?? null,
            scopes,
            quotaDaily: draft.quotaDaily ?? null,
            createdAt: new Date(clock.now()),
            createdBy: actor.principal.id,
            expiresAt,
          })
          .returning()
        if (!made) throw new GatewayError('internal_error', 'The key was not stored: try again.')
        await announce(keyCreated, made, actor.principal.id, tx, { request: actor.request })
        return made
      })
      return { row, key }
    },

    async list({ limit, offset, cursor, revoked }) {
      const living = revoked ? undefined : isNull(keys.revokedAt)
      const after = cursor === undefined ? undefined : fromCursor(cursor)
      const beyond = after && sql`(${keys.createdAt}, ${keys.id}) < (${after.createdAt}::timestamptz, ${after.id})`
      const rows = await db
        .select()
        .from(keys)
        .where(and(living, beyond))
        .orderBy(desc(keys.createdAt), desc(keys.id))
        .limit(limit + 1)
        .offset(offset)
      const [all] = await db.select({ total: count() }).from(keys).where(living)
      const page = rows.slice(0, limit)
      const last = page.at(-1)
      return { rows: page, total: all?.total ?? 0, cursor: last && rows.length > limit ? toCursor(last) : null }
    },

    async get(id) {
      const [row] = await db.select().from(keys).where(eq(keys.id, id))
      if (!row) throw unknownKey(id)
      return row
    },

    change: (id, patch, actor) =>
      alter(id, keyChanged, actor, (row, granter) => {
        const scopes = patch.scopes ? [...new Set(patch.scopes)] : row.scopes
        assertGrantable(granter, patch.scopes ? scopes : [], row.kind, knownScopes(kernel))
        const expiresAt = toExpiry(patch.expiresAt, clock)
        return {
          name: patch.name ?? row.name,
          scopes,
          quotaDaily: patch.quotaDaily === undefined ? row.quotaDaily : patch.quotaDaily,
          ...(expiresAt === undefined ? {} : { expiresAt, expiredAt: null }),
        }
      }),

    async rotate(id, actor) {
      const { prefix } = await self.get(id)
      const { key, hash } = await newSecret(prefix)
      const row = await alter(id, keyRotated, actor, (before, granter) => {
        assertGrantable(granter, before.scopes, before.kind)
        return { hash, rotatedAt: new Date(clock.now()) }
      })
      return { row, key }
    },

    revoke: (id, actor) => alter(id, keyRevoked, actor, () => ({ revokedAt: new Date(clock.now()) })),

    async expire() {
      const now = new Date(clock.now())
      await db.transaction(async (tx) => {
        const due = await tx
          .select()
          .from(keys)
          .where(and(lte(keys.expiresAt, now), isNull(keys.expiredAt), isNull(keys.revokedAt)))
          .limit(100)
          .for('update', { skipLocked: true })
        for (const row of due) {
          const version = row.version + 1
          await tx.update(keys).set({ expiredAt: now, version }).where(eq(keys.id, row.id))
          await announce(keyRevoked, { ...row, version }, 'system', tx, { reason: 'expired' })
        }
      })
    },

    heard({ id, change, changed }) {
      if (!doneHere.delete(change) && endsConnections({ changed })) kernel.revoke(viaOfKey(id))
    },
  }
  return self
}

/** What a key may do of which nothing is said: a person's decides approvals too. */
export function presetScopes(kind: KeyKind, known: readonly string[]): string[] {
  const preset = kind === 'user' || kind === 'device' ? ['rpc', 'api', 'approve'] : ['rpc', 'api']
  return preset.filter((scope) => known.includes(scope))
}

/** Who makes the keys of devices. A right of nobody: it is no principal that a request could have. */
const pairing: Principal = { id: 'pairing', kind: 'service', scopes: ['rpc', 'api', 'approve'], groups: [], via: 'pairing' }

/** The keys of paired devices. */
export function createDeviceKeys(life: Keys, db: Database, clock: Clock): DeviceKeys {
  return {
    async issue(name, request) {
      const { row, key } = await life.create({ name, kind: 'device' }, { principal: pairing, request })
      return { id: row.id, key, scopes: row.scopes }
    },
    async count() {
      const isLiving = or(isNull(keys.expiresAt), gt(keys.expiresAt, new Date(clock.now())))
      const [found] = await db
        .select({ devices: count() })
        .from(keys)
        .where(and(eq(keys.createdBy, pairing.id), isNull(keys.revokedAt), isLiving))
      return found?.devices ?? 0
    },
  }
}

/** True while the key may be used. */
export function isUsable(row: Pick<KeyRow, 'revokedAt' | 'expiresAt'>, now: number): boolean {
  return row.revokedAt === null && (row.expiresAt === null || row.expiresAt.getTime() > now)
}

/** Refuses unknown scopes (400, naming the nearest), scopes the granter lacks (403), and deciding rights for an agent's key (403). */
export function assertGrantable(granter: Principal, scopes: readonly string[], kind: KeyKind, known?: readonly string[]): void {
  for (const scope of scopes) {
    if (known && !known.includes(scope)) {
      const nearest = nearestName(scope, known)
      throw new GatewayError(
        'validation_failed',
        `There is no scope "${scope}"${nearest ? `: did you mean "${nearest}"?` : `; there are ${known.join(', ')}.`}`,
        { param: 'scopes' },
      )
    }
    if (!hasScope(granter, scope))
      throw new GatewayError('insufficient_scope', `You cannot grant the scope "${scope}" because you do not have it.`, { param: 'scopes' })
    if (kind === 'agent' && (scope === 'admin' || scope === 'approve')) {
      throw new GatewayError('forbidden', `A key of kind agent never has the scope "${scope}": make one of kind user or service.`, { param: 'scopes' })
    }
  }
}

/** Of a key of the table; undefined for every other credential. */
function idOfVia(via: string): string | undefined {
  return /^token:(key_.+)$/.exec(via)?.[1]
}

function knownScopes(kernel: KeysOptions['kernel']): string[] {
  return kernel.scopes().map(({ ref }) => ref.id)
}

function toExpiry(value: string | null | undefined, clock: Clock): Date | null | undefined {
  if (value === undefined || value === null) return value
  const time = Date.parse(value)
  if (Number.isNaN(time) || !/^\d{4}-\d\d-\d\dT/.test(value))
    throw new GatewayError('validation_failed', 'expiresAt is not an RFC 3339 time such as 2027-01-31T00:00:00Z.', { param: 'expiresAt' })
  if (time <= clock.now()) throw new GatewayError('validation_failed', 'expiresAt lies in the past: revoke the key instead.', { param: 'expiresAt' })
  return new Date(time)
}

function unknownKey(id: string): GatewayError {
  return new GatewayError('not_found', `There is no living key ${JSON.stringify(id)}: GET /api/keys lists them.`, { param: 'id' })
}

function toCursor(row: KeyRow): string {
  return Buffer.from(JSON.stringify([row.createdAt.toISOString(), row.id])).toString('base64url')
}

function fromCursor(cursor: string): { createdAt: string; id: string } {
  try {
    const [createdAt, id] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    // Only what `toCursor` writes: other days, years and letters would be the database's to refuse.
    const isMoment = typeof createdAt === 'string' && /^[12]\d{3}-/.test(createdAt) && new Date(createdAt).toISOString() === createdAt
    if (isMoment && typeof id === 'string' && /^key_[0-9a-f]{1,64}$/.test(id)) return { createdAt, id }
  } catch {}
  throw new GatewayError('validation_failed', 'The cursor is not one this list gave out: start without it.', { param: 'cursor' })
}
