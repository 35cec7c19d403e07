/** The plugin `auth`: asks the auth methods who is calling, and lets in or refuses. */
import { authMethods, definePlugin, gatekeeper, statSources } from 'portico'
import { CachingGatekeeper } from './gatekeeper.ts'

export default definePlugin({
  id: 'auth',
  version: '0.1.0',
  api: 1,
  summary: 'Asks the auth methods who is calling, and lets in or refuses',
  provides: { gatekeeper },
  slots: [authMethods],
  adds: [statSources],
  // Nobody is let in without it.
  onFailure: 'abort',

  setup(ctx) {
    const keeper = new CachingGatekeeper({ authMethods: () => ctx.items(authMethods), now: () => ctx.clock.now() })
    ctx.add(statSources, () => ({ gauges: { cached_tokens: keeper.cached }, counters: {} }))
    return { services: { gatekeeper: keeper } }
  },
})
