/** The plugin `auth-token`: keys in a table, tokens in the config, and the auth method that knows both. */
import { authMethods, definePlugin, GatewayError, kernel, nearestName, secret, statSources, t } from 'portico'
import { authInfo, deviceKeys, keyChanged, keyRevoked, keyRotated } from './contract.ts'
import { createDeviceKeys, createKeys, keyEvents, presetScopes } from './keys.ts'
import { type ConfiguredToken, createKeyUse, createTokenMethod } from './method.ts'
import { createRemembered } from './remembered.ts'
import { authConfigRoutes, callerRoutes, keyRoutes } from './routes.ts'
import { keyKinds, keys as table } from './schema.ts'
import { createVerifier } from './secrets.ts'

const housekeeping = 15_000
const shortestToken = 32

const config = t.Object({
  tokens: t.Array(
    t.Object({
      id: t.String({ pattern: '^(?!key_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', description: 'The principal’s id' }),
      secret: secret({ description: 'At least 32 characters' }),
      scopes: t.Optional(t.Array(t.String(), { description: 'Default rpc and api, of a person also approve' })),
      kind: t.Optional(t.Enum(keyKinds)),
    }),
    { default: [], maxItems: 100, description: 'Tokens that stand in the config, beside the keys of the table' },
  ),
  outageMinutes: t.Integer({
    ...{ minimum: 0, maximum: 1_440, default: 60 },
    description: 'While the database is away: how long a key stays good after it was last found good; 0 = not at all',
  }),
})

export default definePlugin({
  id: 'auth-token',
  version: '0.1.0',
  api: 1,
  summary: 'Keys: Bearer tokens with scopes, stored as Argon2id',
  config,
  events: keyEvents,
  requires: { kernel },
  provides: { deviceKeys },
  adds: [authMethods, statSources],
  slots: [authInfo],
  paths: ['/api/keys', '/v1/ping', '/api/v1/auth/whoami', '/auth/config'],
  tables: { keys: table },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'keys', summary: 'Create, list, rotate and revoke keys', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { kernel } = ctx.services
    const tokens = configuredTokens(
      ctx.config.tokens,
      kernel.scopes().map(({ ref }) => ref.id),
    )
    const remembered = createRemembered(ctx.clock, ctx.config.outageMinutes * 60_000)
    const revoke = (via: string) => {
      remembered.forget(via)
      kernel.revoke(via)
    }
    const keys = createKeys({ db: ctx.db, clock: ctx.clock, kernel: { revoke, scopes: kernel.scopes }, publish: ctx.publish })
    const use = createKeyUse(ctx.db, ctx.clock)

    const verifier = createVerifier()
    const { isConnectionError } = kernel.database
    const method = createTokenMethod({ db: ctx.db, clock: ctx.clock, tokens, verifier, remembered, isConnectionError, used: use.used })
    ctx.add(authMethods, method, { order: 10 })
    ctx.add(statSources, verifier.stats)
    for (const ref of [keyChanged, keyRotated, keyRevoked]) ctx.on(ref, ({ data }) => keys.heard(data))

    let loop = Promise.resolve()
    ctx.defer(async () => {
      await loop
      await use.flush().catch((error) => ctx.log.warn('The last use of some keys was not stored', { error }))
    })

    return {
      services: { deviceKeys: createDeviceKeys(keys, ctx.db, ctx.clock) },
      routes: [keyRoutes(keys), callerRoutes(), authConfigRoutes(() => ctx.items(authInfo))],
      ready() {
        loop = (async () => {
          while (!ctx.signal.aborted) {
            await ctx.clock.sleep(housekeeping, ctx.signal).catch(() => undefined)
            if (ctx.signal.aborted) return
            await Promise.all([use.flush(), keys.expire()]).catch((error) => ctx.log.warn('Housekeeping of keys failed; it is tried again in 15 s', { error }))
          }
        })()
      },
    }
  },
})

type TokenSection = readonly { id: string; secret: string; scopes?: readonly string[]; kind?: (typeof keyKinds)[number] }[]

function configuredTokens(section: TokenSection, known: readonly string[]): ConfiguredToken[] {
  const wrong = (index: number, key: string, why: string) => new GatewayError('config_invalid', `tokens[${index}].${key}: ${why}`, { plugin: 'auth-token' })
  const seen = new Set<string>()
  return section.map(({ id, secret, kind = 'user', scopes = presetScopes(kind, known) }, index) => {
    if (seen.has(id)) throw wrong(index, 'id', `"${id}" stands there twice.`)
    seen.add(id)
    if (secret.length < shortestToken)
      throw wrong(index, 'secret', `found ${secret.length} characters; expected at least ${shortestToken}: make one with "openssl rand -base64 32".`)
    const unknown = scopes.find((scope) => !known.includes(scope))
    if (kind === 'agent' && scopes.includes('approve')) throw wrong(index, 'scopes', 'an agent decides no approvals: take "approve" out.')
    if (unknown !== undefined) {
      const nearest = nearestName(unknown, known)
      throw wrong(index, 'scopes', `there is no scope "${unknown}"${nearest ? `: did you mean "${nearest}"?` : `; there are ${known.join(', ')}.`}`)
    }
    return { id, secret, scopes, kind }
  })
}
