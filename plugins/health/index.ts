/** The plugin `health`: probes for those who watch the gateway, and its status. */
import { definePlugin, kernel } from 'portico'
import { statusInfo } from './contract.ts'
import { createReport } from './report.ts'
import { probeRoutes, statusRoutes } from './routes.ts'

export default definePlugin({
  id: 'health',
  version: '0.1.0',
  api: 1,
  summary: 'Health, readiness and status',
  requires: { kernel },
  slots: [statusInfo],
  paths: ['/health', '/healthz', '/readyz', '/api/health', '/api/v1/health', '/api/v1/status'],
  setup(ctx) {
    const { kernel } = ctx.services
    const options = { kernel, clock: ctx.clock, report: createReport({ kernel, clock: ctx.clock, contributors: () => ctx.items(statusInfo) }) }
    return { routes: [probeRoutes(options), statusRoutes(options)] }
  },
})
