/** The plugin `metrics`: `/metrics` for Prometheus. Without a key only over loopback. */
import { admin, definePlugin, GatewayError, kernel, optional } from 'portico'
import { readStats } from './contract.ts'
import { contentType, createMetrics } from './metrics.ts'

export default definePlugin({
  id: 'metrics',
  version: '0.1.0',
  api: 1,
  summary: 'Numbers for Prometheus',
  requires: { kernel },
  paths: ['/metrics'],
  setup(ctx) {
    const { kernel } = ctx.services
    const { version, runtime, startedAt } = kernel
    const metrics = createMetrics({ version, runtime, startedAt, stats: () => readStats(kernel) })
    ctx.defer(metrics.stop)
    ctx.defer(kernel.onRequest(metrics.observe))
    return {
      routes: [
        optional(admin, (app) =>
          app.get(
            '/metrics',
            async ({ principal, loopback }) => {
              if (principal.kind === 'anonymous' && !loopback) {
                throw new GatewayError('missing_credentials', 'Without a key metrics are shown over loopback only: send one with the scope admin.', {
                  headers: { 'www-authenticate': 'Bearer' },
                })
              }
              return new Response(await metrics.text(), { headers: { 'content-type': contentType, 'cache-control': 'no-store' } })
            },
            {
              detail: {
                operationId: 'getMetrics',
                summary: 'Metrics in the Prometheus text format',
                tags: ['health'],
                responses: { 200: { description: 'The metrics', content: { 'text/plain': { schema: { type: 'string' } } } } },
              },
            },
          ),
        ),
      ],
    }
  },
})
