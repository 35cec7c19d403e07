/** The probes of five worlds, and the status page's data. */
import { type Clock, guard, hasScope, type Kernel, open, type RouteGroup, rpc, t } from 'portico'
import { type ComponentHealth, isDegraded, type Report } from './report.ts'

const tags = ['health']
const state = t.Enum(['ok', 'reachable', 'down'])
const states = t.Record(t.String(), state)
const seconds = t.Number({ description: 'Seconds since the start' })
const time = t.String({ format: 'date-time' })

/** What the routes need. */
export interface HealthRoutesOptions {
  kernel: Kernel
  clock: Clock
  report: Report
}

/** The open probes; they are exempt from request limits. */
export function probeRoutes({ kernel, clock, report }: HealthRoutesOptions): RouteGroup {
  const uptime = () => Math.round((clock.now() - kernel.startedAt) / 100) / 10
  const now = () => new Date(clock.now()).toISOString()
  const startedAt = new Date(kernel.startedAt).toISOString()
  const { version } = kernel

  return open(
    (app) =>
      app
        .get('/health', () => ({ status: 'ok' as const, timestamp: now(), version, uptime: uptime() }), {
          response: t.Object({ status: t.Literal('ok'), timestamp: time, version: t.String(), uptime: seconds }),
          detail: { operationId: 'getHealth', summary: 'Is it up', tags },
        })
        .get('/health/live', () => ({ alive: true as const }), {
          response: t.Object({ alive: t.Literal(true) }),
          detail: { operationId: 'getLiveness', summary: 'Is the process alive', tags },
        })
        .get(
          '/health/ready',
          async ({ status }) => {
            const failed = (await report.components()).filter(isDown).map(({ name }) => name)
            const answer = { ready: failed.length === 0, service: 'portico', version, ...(failed.length > 0 ? { checks_failed: failed } : {}) }
            return failed.length === 0 ? answer : status(503, answer)
          },
          {
            response: { 200: readiness, 503: readiness },
            detail: { operationId: 'getReadiness', summary: 'Can it do its work; 503 when a component is down', tags },
          },
        )
        .get('/healthz', () => ({ status: 'ok' as const }), {
          response: t.Object({ status: t.Literal('ok') }),
          detail: { operationId: 'getHealthz', summary: 'Is it up, in Kubernetes’ words', tags },
        })
        .get(
          '/readyz',
          async ({ status }) => {
            const components = await report.components()
            const answer = { status: worst(components), checks: toStates(components) }
            return answer.status === 'down' ? status(503, answer) : answer
          },
          {
            response: { 200: checks, 503: checks },
            detail: { operationId: 'getReadyz', summary: 'Each component: ok, reachable (degraded) or down; 503 only for down', tags },
          },
        )
        .get('/api/health', () => ({ status: 'ok' as const, timestamp: now(), startedAt, version }), {
          response: t.Object({ status: t.Literal('ok'), timestamp: time, startedAt: time, version: t.String() }),
          detail: { operationId: 'getApiHealth', summary: 'Is the API up', tags },
        })
        .get(
          '/api/v1/health',
          async () => {
            const [components, contributed] = await Promise.all([report.components(), report.contributedHealth()])
            return {
              status: isDegraded(components, contributed) ? ('degraded' as const) : ('healthy' as const),
              version,
              uptime: uptime(),
              components: { gateway: 'ok', ...toStates(components), tools: {}, ...contributed },
            }
          },
          {
            response: t.Object({
              status: t.Enum(['healthy', 'degraded']),
              version: t.String(),
              uptime: seconds,
              components: t.Record(t.String(), t.Union([t.String(), t.Record(t.String(), t.String())]), {
                description: 'By name; `tools` holds a state per detected tool',
              }),
            }),
            detail: { operationId: 'getComponentHealth', summary: 'How each component is', tags },
          },
        ),
    { unlimited: true },
  )
}

/** `/api/v1/status`. */
export function statusRoutes({ kernel, clock, report }: HealthRoutesOptions): RouteGroup {
  return guard(rpc, (app) =>
    app.get(
      '/api/v1/status',
      async ({ principal }) => {
        const isAdmin = hasScope(principal, 'admin')
        return {
          ...(await report.contributedStatus()),
          version: kernel.version,
          runtime: kernel.runtime,
          startedAt: new Date(kernel.startedAt).toISOString(),
          uptime: Math.round((clock.now() - kernel.startedAt) / 100) / 10,
          ...(isAdmin ? { workspace: kernel.dataDir } : {}),
          components: toStates(await report.components()),
          // A reason is what a plugin said when it failed: it may name paths and hosts.
          plugins: kernel.plugins().map(({ id, version, state, reason }) => ({ id, version, state, ...(isAdmin && reason !== undefined ? { reason } : {}) })),
        }
      },
      {
        response: t.Object(
          {
            version: t.String(),
            runtime: t.String(),
            startedAt: time,
            uptime: seconds,
            workspace: t.Optional(t.String({ description: 'The data folder, for administrators' })),
            components: states,
            plugins: t.Array(
              t.Object({ id: t.String(), version: t.String(), state: t.String(), reason: t.Optional(t.String({ description: 'For administrators' })) }),
            ),
          },
          { additionalProperties: true, description: 'Plugins add keys of their own, such as `models`' },
        ),
        detail: { operationId: 'getStatus', summary: 'What runs here', tags },
      },
    ),
  )
}

const readiness = t.Object({ ready: t.Boolean(), service: t.String(), version: t.String(), checks_failed: t.Optional(t.Array(t.String())) })
const checks = t.Object({ status: state, checks: states })

const isDown = (component: ComponentHealth) => component.state === 'down'

function worst(components: readonly ComponentHealth[]): ComponentHealth['state'] {
  if (components.some(isDown)) return 'down'
  return components.some((component) => component.state === 'reachable') ? 'reachable' : 'ok'
}

function toStates(components: readonly ComponentHealth[]): Record<string, ComponentHealth['state']> {
  return Object.fromEntries(components.map((component) => [component.name, component.state]))
}
