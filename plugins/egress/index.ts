/** The plugin `egress`: the one way to addresses that come from outside. */
import { lookup } from 'node:dns/promises'
import { definePlugin } from 'portico'
import { security } from 'portico/plugins/audit'
import { egressConfig } from './config.ts'
import { egress as egressRef } from './contract.ts'
import { createEgress } from './egress.ts'
import type { Refusal } from './refusal.ts'

const quietMs = 10_000
const maxRemembered = 1_000

export default definePlugin({
  id: 'egress',
  version: '0.1.0',
  api: 1,
  summary: 'Fetches addresses from outside, and none that lead inside',
  config: egressConfig,
  provides: { egress: egressRef },

  // An entry that opens something else than was meant is an error of the start.
  onFailure: 'abort',

  optional: { security },
  setup(ctx) {
    const lastTold = new Map<string, number>()
    /** The one place that tells the operator of a refusal. Who is refused in a loop is told of once in ten seconds. */
    const refused = ({ message: _, ...refusal }: Refusal) => {
      const host = refusal.host.slice(0, 253)
      const key = `${refusal.reason} ${host} ${refusal.purpose}`
      const now = ctx.clock.now()
      if (now - (lastTold.get(key) ?? Number.NEGATIVE_INFINITY) < quietMs) return
      if (lastTold.size >= maxRemembered) lastTold.clear()
      lastTold.set(key, now)
      if (ctx.services.security) ctx.services.security.warn('egress_refused', { ...refusal, host })
      else ctx.log.warn('An address was refused', { ...refusal, host })
    }
    const resolve = async (name: string) => (await lookup(name, { all: true })).map(({ address }) => address)
    return { services: { egress: createEgress({ config: ctx.config, signal: ctx.signal, resolve, refused }) } }
  },
})
