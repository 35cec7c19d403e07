/** The plugin `auth-pairing`: a short code, shown where the gateway runs, becomes the key of a device. */
import { definePlugin, secret, t } from 'portico'
import { authInfo, deviceKeys } from 'portico/plugins/auth-token'
import { guessLimit } from 'portico/plugins/limits'
import { createCodes } from './codes.ts'
import { pairingRoute, pairRoute } from './routes.ts'
import { codes as table } from './schema.ts'

export default definePlugin({
  id: 'auth-pairing',
  version: '0.1.0',
  api: 1,
  summary: 'Pairing: a code that is shown at the start becomes the key of a device',
  config: t.Object({
    requirePairing: t.Boolean({ default: true, description: 'A start shows a code while no device is paired; false = only "portico pair" makes one' }),
    nodeControl: t.Optional(
      t.Object(
        {
          enabled: t.Optional(t.Boolean({ default: false })),
          authToken: t.Optional(secret()),
          allowedNodeIds: t.Optional(t.Array(t.String(), { maxItems: 1_000 })),
        },
        { description: 'Taken as it is written; what it does comes with the plugin nodes' },
      ),
    ),
  }),
  requires: { deviceKeys },
  optional: { guessLimit },
  adds: [authInfo],
  paths: ['/pair', '/api/pairing'],
  tables: { codes: table },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'pair', summary: 'Show a code that pairs a device', load: () => import('./cli.ts') }],

  setup(ctx) {
    const codes = createCodes(ctx.db, ctx.clock)
    const { deviceKeys, guessLimit } = ctx.services
    ctx.add(authInfo, { method: 'pairing', info: () => ({ url: '/pair', header: 'X-Pairing-Code' }) })
    return { routes: [pairRoute(codes, deviceKeys, guessLimit), pairingRoute(codes, deviceKeys, ctx.config.requirePairing)] }
  },
})
