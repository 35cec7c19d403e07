/** The plugin `approvals`: one table and one service for every gate at which a run waits for a person. */
import { definePlugin, t } from 'portico'
import { database } from 'portico/plugins/database'
import { approvalEvents, createApprovals } from './approvals.ts'
import * as contract from './contract.ts'
import { decisionRoutes, readRoutes } from './routes.ts'
import { approvals as table } from './schema.ts'

/** ms: another process may have asked, too. */
const longestSleep = 60_000
const retryAfter = 2_000

export default definePlugin({
  id: 'approvals',
  version: '0.1.0',
  api: 1,
  summary: 'Gates at which runs wait until a person decides',
  config: t.Object({
    deadline: t.Integer({
      ...{ minimum: 1_000, maximum: 2_592_000_000, default: 86_400_000 },
      description: 'ms after which what nobody decided is denied, and its run rejected',
    }),
  }),
  events: approvalEvents,
  scopes: [contract.approve],
  requires: { database },
  provides: { approvals: contract.approvals },
  slots: [contract.approvalListeners],
  paths: ['/api/approvals'],
  tables: { approvals: table },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'approvals', summary: 'See and decide what runs wait for', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { clock, config, db, log, services, signal } = ctx
    let next = Number.POSITIVE_INFINITY
    let wake = new AbortController()
    const approvals = createApprovals({
      ...{ db, clock, publish: ctx.publish, deadline: config.deadline, listeners: () => ctx.items(contract.approvalListeners) },
      onDeadline(at) {
        if (at >= next) return
        next = at
        wake.abort()
      },
    })

    async function keepDeadlines(): Promise<void> {
      while (!signal.aborted) {
        let pause = retryAfter
        try {
          wake = new AbortController()
          const due = await approvals.expire()
          next = Math.min(due ?? Number.POSITIVE_INFINITY, clock.now() + longestSleep)
          pause = Math.max(0, next - clock.now())
        } catch (error) {
          if (!services.database.isConnectionError(error) && !signal.aborted)
            log.error('Deadlines of approvals could not be kept; they are tried again', { error })
        }
        await clock.sleep(pause, AbortSignal.any([signal, wake.signal])).catch(() => undefined)
      }
    }

    let loop = Promise.resolve()
    ctx.defer(() => loop)
    return {
      services: { approvals },
      routes: [readRoutes(approvals), decisionRoutes(approvals)],
      ready() {
        loop = keepDeadlines()
      },
    }
  },
})
