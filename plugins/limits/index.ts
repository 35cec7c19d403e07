/** The plugin `limits`: how many requests an address and a principal may send, and how many credentials an address may guess. Counts in memory. */
import { authMethods, definePlugin, requestLimits, statSources, streamLimits, t } from 'portico'
import { guessLimit } from './contract.ts'
import { createGuessLimit } from './guesses.ts'
import { createAddressLimit, createPrincipalLimit, createStreamLimit } from './limits.ts'

const window = (summary: string) =>
  t.Object({
    windowMs: t.Integer({ minimum: 100, maximum: 86_400_000, default: 60_000, description: 'ms; the window slides' }),
    maxRequests: t.Integer({ minimum: 1, default: 100, description: summary }),
  })

export default definePlugin({
  id: 'limits',
  version: '0.1.0',
  api: 1,
  summary: 'Limits requests by address and by principal, and guesses of credentials',
  config: t.Object({
    rateLimit: t.Optional(window('Requests of one principal in the window')),
    addressRateLimit: t.Optional(window('Requests of one client address in the window')),
  }),
  provides: { guessLimit },
  adds: [requestLimits, streamLimits, authMethods, statSources],
  setup(ctx) {
    const { rateLimit, addressRateLimit } = ctx.config
    const now = () => ctx.clock.now()
    const counts = [
      ...(addressRateLimit ? [createAddressLimit({ ...addressRateLimit, now })] : []),
      ...(rateLimit ? [createPrincipalLimit({ ...rateLimit, now })] : []),
    ]
    for (const limit of counts) ctx.add(requestLimits, limit)
    ctx.add(streamLimits, createStreamLimit())
    const guesses = createGuessLimit(now)
    ctx.add(authMethods, guesses.first, { order: Number.MIN_SAFE_INTEGER })
    ctx.add(authMethods, guesses.last, { order: Number.MAX_SAFE_INTEGER })
    ctx.add(statSources, () => ({ gauges: { guessing_addresses: guesses.size, limited_keys: counts.reduce((sum, { size }) => sum + size, 0) }, counters: {} }))
    return { services: { guessLimit: guesses } }
  },
})
