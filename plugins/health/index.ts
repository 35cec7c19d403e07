/** The plugin `health`: probes for those who watch the gateway, and its status. */
import { definePlugin, kernel } from 'portico'
import { database } from 'portico/plugins/database'
import { statusInfo } from './contract.ts'
import { createReport } from './report.ts'
import { probeRoutes, statusRoutes } from './routes.ts'

export default definePlugin({
  id: 'health',
  version: '0.1.0',
  api: 1,
  summary: 'Health, readiness and status',
  requires: { kernel, database },
  slots: [statusInfo],
  paths: ['/health', '/healthz', '/readyz', '/api/health', '/api/v1/health', '/api/v1/status'],
  setup(ctx) {
    const { kernel, database } = ctx.services
    const report = createReport({ kernel, database, clock: ctx.clock, contributors: () => ctx.items(statusInfo) })
    const options = { kernel, clock: ctx.clock, report }
    return { routes: [probeRoutes(options), statusRoutes(options)] }
  },
})
