/** The plugin `approvals`: one table and one service for every gate at which a run waits for a person. */
import { definePlugin, t } from 'portico'
import { database } from 'portico/plugins/database'
import { approvalEvents, createApprovals } from './approvals.ts'
import * as contract from './contract.ts'
import { createDeadlines } from './deadlines.ts'
import { decisionRoutes, readRoutes } from './routes.ts'
import { approvals as table } from './schema.ts'

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
    const isAway = services.database.isConnectionError
    const deadlines = createDeadlines({ clock, log, signal, isAway, expire: () => approvals.expire(signal) })
    const approvals = createApprovals({
      ...{ db, clock, log, isAway, publish: ctx.publish, deadline: config.deadline, listeners: () => ctx.items(contract.approvalListeners) },
      onDeadline: deadlines.expect,
    })

    let loop = Promise.resolve()
    ctx.defer(() => loop)
    return {
      services: { approvals },
      routes: [readRoutes(approvals), decisionRoutes(approvals)],
      ready() {
        loop = deadlines.keep()
      },
    }
  },
})
