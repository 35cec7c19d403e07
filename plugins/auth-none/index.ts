/** The plugin `auth-none`: everybody on this machine may use the gateway without a key, if the config says so. */
import { authMethods, definePlugin, GatewayError, kernel, nearestName, t } from 'portico'
import { createLocalMethod } from './method.ts'

/** `approve` is the plugin approvals': without it, it gives nothing. */
const presets = ['rpc', 'api', 'approve']

export default definePlugin({
  id: 'auth-none',
  version: '0.1.0',
  api: 1,
  summary: 'Lets everybody on this machine in without a key; off unless allow = true',
  config: t.Object({
    allow: t.Boolean({ default: false, description: 'true = who is on this machine and presents no credential is let in' }),
    scopes: t.Array(t.String({ minLength: 1 }), { default: presets, description: 'What the local user may do' }),
  }),
  requires: { kernel },
  adds: [authMethods],

  setup(ctx) {
    const { allow, scopes } = ctx.config
    if (!allow) return
    const { kernel } = ctx.services
    refusePublic(kernel.config().values.gateway)
    refuseUnknown(scopes, [...kernel.scopes().map(({ ref }) => ref.id), ...presets])
    // Last: every other method is asked before.
    ctx.add(authMethods, createLocalMethod(scopes), { order: 1_000 })
    return {
      ready() {
        ctx.log.warn(`Everybody on this machine may use this gateway without a key, with the scopes ${scopes.join(', ') || 'none'}: [auth-none] allow = true`)
      },
    }
  },
})

/** Whatever does not say clearly that others cannot reach it counts as public. */
function refusePublic(gateway: unknown): void {
  if ((gateway as { allowPublicBind?: unknown } | undefined)?.allowPublicBind === false) return
  throw wrong(
    'allow',
    'the gateway may listen publicly (gateway.allowPublicBind = true), and whoever needs no key must be on this machine. Take one of the two out.',
  )
}

function refuseUnknown(scopes: readonly string[], known: readonly string[]): void {
  const unknown = scopes.find((scope) => !known.includes(scope))
  if (unknown === undefined) return
  const nearest = nearestName(unknown, known)
  throw wrong('scopes', `there is no scope "${unknown}"${nearest ? `: did you mean "${nearest}"?` : `; there are ${known.join(', ')}.`}`)
}

function wrong(key: string, why: string): GatewayError {
  return new GatewayError('config_invalid', `${key}: ${why}`, { plugin: 'auth-none' })
}
