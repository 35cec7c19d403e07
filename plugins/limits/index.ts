/** The plugin `limits`: how many requests an address and a principal may send, and how many credentials an address may guess. Counts in memory. */
import { authMethods, definePlugin, requestLimits, statSources, t } from 'portico'
import { guessLimit } from './contract.ts'
import { createGuessLimit } from './guesses.ts'
import { createAddressLimit, createPrincipalLimit } from './limits.ts'

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
  adds: [requestLimits, authMethods, statSources],
  setup(ctx) {
    const { rateLimit, addressRateLimit } = ctx.config
    const now = () => ctx.clock.now()
    if (addressRateLimit) ctx.add(requestLimits, createAddressLimit({ ...addressRateLimit, now }))
    if (rateLimit) ctx.add(requestLimits, createPrincipalLimit({ ...rateLimit, now }))
    const guesses = createGuessLimit(now)
    ctx.add(authMethods, guesses.first, { order: Number.MIN_SAFE_INTEGER })
    ctx.add(authMethods, guesses.last, { order: Number.MAX_SAFE_INTEGER })
    ctx.add(statSources, () => ({ gauges: { guessing_addresses: guesses.size }, counters: {} }))
    return { services: { guessLimit: guesses } }
  },
})
