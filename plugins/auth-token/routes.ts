/** The routes of keys, and those that tell a caller who it is. */

import { admin, GatewayError, guard, hasScope, open, type RouteGroup, rpc, t } from 'portico'
import type { AuthInfo } from './contract.ts'
import type { Keys } from './keys.ts'
import { type KeyRow, keyKinds } from './schema.ts'

const moment = t.String({ format: 'date-time', description: 'RFC 3339, UTC' })
const view = {
  id: t.String(),
  name: t.String(),
  prefix: t.String({ description: 'The public part of the key: ptk_<prefix>_…' }),
  kind: t.Enum(keyKinds),
  owner: t.Nullable(t.String()),
  scopes: t.Array(t.String()),
  quotaDaily: t.Nullable(t.Integer()),
  createdAt: moment,
  createdBy: t.String(),
  expiresAt: t.Nullable(moment),
  rotatedAt: t.Nullable(moment),
  lastUsedAt: t.Nullable(moment),
  revokedAt: t.Nullable(moment),
}
const keyView = t.Object(view)
const shownOnce = t.Object({ ...view, key: t.String({ description: 'The key itself: shown this once' }) })

// Much for a key, and too little for a body to keep the checks of its shape busy.
const bodyLimit = 16_384
const deepestEcho = 100
// What the column holds.
const quota = { minimum: 0, maximum: 2_147_483_647 }

const changeable = {
  // No control characters: the name is shown in terminals.
  name: t.Optional(t.String({ minLength: 1, maxLength: 100, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$' })),
  scopes: t.Optional(t.Array(t.String(), { minItems: 1, maxItems: 100 })),
  expiresAt: t.Optional(t.Nullable(t.String({ description: 'RFC 3339; null = never' }))),
  quotaDaily: t.Optional(t.Nullable(t.Integer({ ...quota, description: 'Requests a day; null = no quota' }))),
  quota_daily: t.Optional(t.Nullable(t.Integer({ ...quota, description: 'The same, by its other name' }))),
}
const draft = t.Object({
  ...changeable,
  kind: t.Optional(t.Enum(keyKinds)),
  owner: t.Optional(
    t.String({
      pattern: '^(?!key_|anonymous$)[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$',
      description: 'Whose key it is: keys of one owner are one principal. Default: the key itself',
    }),
  ),
})
const byId = t.Object({ id: t.String({ description: 'key_…' }) })

const tags = ['keys']

/** `/api/keys`, for administrators. */
export function keyRoutes(keys: Keys): RouteGroup {
  return guard(
    admin,
    (app) =>
      app
        .post(
          '/api/keys',
          async ({ body, principal, request, status, set }) => {
            const { row, key } = await keys.create(quotaOf(body), { principal, request })
            set.headers['cache-control'] = 'no-store'
            return status(201, { ...toView(row), key })
          },
          { body: draft, response: { 201: shownOnce }, detail: { operationId: 'createKey', summary: 'Make a key; it is shown this once', tags } },
        )
        .get(
          '/api/keys',
          async ({ query }) => {
            const page = { limit: query.limit ?? 50, offset: query.offset ?? 0, cursor: query.cursor, revoked: query.revoked ?? false }
            const { rows, total, cursor } = await keys.list(page)
            return { keys: rows.map(toView), total, limit: page.limit, offset: page.offset, cursor }
          },
          {
            query: t.Object({
              limit: t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 200, description: 'Default 50' })),
              offset: t.Optional(t.Number({ multipleOf: 1, minimum: 0, maximum: 1_000_000 })),
              cursor: t.Optional(t.String({ description: 'Continues after the page it came with' })),
              revoked: t.Optional(t.Boolean({ description: 'Lists revoked keys too' })),
            }),
            response: t.Object({ keys: t.Array(keyView), total: t.Integer(), limit: t.Integer(), offset: t.Integer(), cursor: t.Nullable(t.String()) }),
            detail: { operationId: 'listKeys', summary: 'List the keys, newest first', tags },
          },
        )
        .get('/api/keys/:id', async ({ params }) => toView(await keys.get(params.id)), {
          params: byId,
          response: keyView,
          detail: { operationId: 'getKey', summary: 'One key', tags },
        })
        .patch('/api/keys/:id', async ({ params, body, principal, request }) => toView(await keys.change(params.id, quotaOf(body), { principal, request })), {
          params: byId,
          body: t.Object(changeable),
          response: keyView,
          detail: { operationId: 'changeKey', summary: 'Change a key’s name, scopes, expiry or quota', tags },
        })
        .post(
          '/api/keys/:id/rotate',
          async ({ params, principal, request, set }) => {
            const { row, key } = await keys.rotate(params.id, { principal, request })
            set.headers['cache-control'] = 'no-store'
            return { ...toView(row), key }
          },
          { params: byId, response: shownOnce, detail: { operationId: 'rotateKey', summary: 'Give a key a new secret; the old one dies at once', tags } },
        )
        .delete('/api/keys/:id', async ({ params, principal, request }) => toView(await keys.revoke(params.id, { principal, request })), {
          params: byId,
          response: keyView,
          detail: { operationId: 'revokeKey', summary: 'Revoke a key; its connections end', tags },
        }),
    { bodyLimit },
  )
}

/** `/v1/ping` and `/api/v1/auth/whoami`. */
export function callerRoutes(): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app
        .post('/v1/ping', async ({ request }) => ({ ok: true as const, echo: echoOf(await request.text()) }), {
          parse: 'none',
          response: t.Object({ ok: t.Literal(true), echo: t.Unknown() }),
          detail: {
            operationId: 'ping',
            summary: 'Echo the message, to try a key',
            tags: ['auth'],
            requestBody: {
              required: false,
              content: { 'application/json': { schema: { type: 'object', properties: { message: { type: 'string' } }, additionalProperties: true } } },
            },
          },
        })
        .get(
          '/api/v1/auth/whoami',
          ({ principal }) => ({
            id: principal.id,
            type: principal.kind,
            kind: principal.kind,
            is_admin: hasScope(principal, 'admin'),
            scopes: [...principal.scopes],
            groups: [...principal.groups],
            via: principal.via,
          }),
          {
            response: t.Object({
              id: t.String(),
              type: t.String(),
              kind: t.String(),
              is_admin: t.Boolean(),
              scopes: t.Array(t.String()),
              groups: t.Array(t.String()),
              via: t.String({ description: 'The method and credential' }),
            }),
            detail: { operationId: 'whoami', summary: 'Who this credential is', tags: ['auth'] },
          },
        ),
    { bodyLimit: 65_536 },
  )
}

/** `/auth/config`: which ways there are to authenticate. */
export function authConfigRoutes(contributed: () => readonly AuthInfo[]): RouteGroup {
  const own = { method: 'token', headers: ['Authorization: Bearer <key>', 'X-Api-Key: <key>'] }
  return open((app) =>
    app.get('/auth/config', () => ({ backend: 'token', methods: [own, ...contributed().map((item) => ({ ...item.info(), method: item.method }))] }), {
      response: t.Object({ backend: t.String(), methods: t.Array(t.Object({ method: t.String() }, { additionalProperties: true })) }),
      detail: { operationId: 'getAuthConfig', summary: 'The ways to authenticate here', tags: ['auth'] },
    }),
  )
}

function toView(row: KeyRow) {
  const { id, name, prefix, kind, owner, scopes, quotaDaily, createdBy } = row
  const at = (date: Date | null) => date?.toISOString() ?? null
  return {
    id,
    name,
    prefix,
    kind,
    owner,
    scopes,
    quotaDaily,
    createdAt: row.createdAt.toISOString(),
    createdBy,
    expiresAt: at(row.expiresAt),
    rotatedAt: at(row.rotatedAt),
    lastUsedAt: at(row.lastUsedAt),
    revokedAt: at(row.revokedAt),
  }
}

function quotaOf<T extends { quotaDaily?: number | null; quota_daily?: number | null }>(body: T): Omit<T, 'quota_daily'> {
  const { quota_daily: other, ...rest } = body
  return rest.quotaDaily === undefined && other !== undefined ? { ...rest, quotaDaily: other } : rest
}

function echoOf(text: string): unknown {
  if (text.trim() === '') return null
  const body = fromJson(text)
  if (isDeeper(body, deepestEcho)) throw new GatewayError('invalid_json', `The body is nested deeper than ${deepestEcho} levels: send a flatter one.`)
  return typeof body === 'object' && body !== null && 'message' in body ? body.message : body
}

function isDeeper(value: unknown, levels: number): boolean {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > levels) return true
    level = level.flatMap((entry) => (typeof entry === 'object' && entry !== null ? Object.values(entry) : []))
  }
  return false
}

function fromJson(text: string): unknown {
  const notJson = (cause: unknown) => new GatewayError('invalid_json', 'The body is not JSON: send {"message":"…"}, or no body.', { cause })
  try {
    return JSON.parse(text)
  } catch (error) {
    throw notJson(error)
  }
}
