/** The routes that show the plugins and the running config. */
import { admin, GatewayError, guard, type Kernel, nearestName, type PluginInfo, type ReloadReport, type RouteGroup, t } from 'portico'
import { configJsonSchema } from './schema.ts'
import type { Writer } from './writer.ts'

const names = t.Array(t.String())
const view = {
  id: t.String(),
  version: t.String(),
  summary: t.String(),
  state: t.Enum(['pending', 'ready', 'failed', 'blocked', 'stopped']),
  reason: t.Optional(t.String({ description: 'Why it is failed or blocked' })),
  from: t.String({ description: 'builtin, or what it was loaded from' }),
  usesKernel: t.Boolean(),
  requires: names,
  provides: names,
  paths: names,
  events: names,
  scopes: names,
}
const json = t.Record(t.String(), t.Unknown())

/** `/api/plugins` and `/api/config`, for administrators. */
export function settingsRoutes(kernel: Kernel): RouteGroup {
  return guard(admin, (app) =>
    app
      .get(
        '/api/plugins',
        () => {
          const plugins = kernel.plugins().map(toView)
          return { plugins, total: plugins.length }
        },
        {
          response: t.Object({ plugins: t.Array(t.Object(view)), total: t.Integer() }),
          detail: { operationId: 'listPlugins', summary: 'The plugins, in the order of the plan', tags: ['plugins'] },
        },
      )
      .get(
        '/api/plugins/:id',
        ({ params }) => {
          const plugins = kernel.plugins()
          const plugin = plugins.find(({ id }) => id === params.id)
          if (!plugin) {
            const nearest = nearestName(
              params.id,
              plugins.map(({ id }) => id),
            )
            throw new GatewayError(
              'not_found',
              `There is no plugin ${JSON.stringify(params.id)}${nearest ? `: did you mean "${nearest}"?` : ': GET /api/plugins lists them.'}`,
              { param: 'id' },
            )
          }
          const routes = kernel.routes().filter((route) => route.plugin === plugin.id)
          return {
            ...toView(plugin),
            routes: routes.map(({ method, path, access }) => ({
              method,
              path,
              access: access.kind,
              scopes: 'scopes' in access ? access.scopes.map(({ id }) => id) : [],
            })),
          }
        },
        {
          params: t.Object({ id: t.String() }),
          response: t.Object({ ...view, routes: t.Array(t.Object({ method: t.String(), path: t.String(), access: t.String(), scopes: names })) }),
          detail: { operationId: 'getPlugin', summary: 'One plugin, with its routes', tags: ['plugins'] },
        },
      )
      .get(
        '/api/config',
        () => {
          const { values, file } = kernel.config()
          return { config: values, file }
        },
        {
          response: t.Object({ config: json, file: t.Nullable(t.String({ description: 'Where it was read; null = defaults and environment only' })) }),
          detail: { operationId: 'getConfig', summary: 'The running config, secrets redacted', tags: ['config'] },
        },
      )
      .get('/api/config/schema', () => configJsonSchema(kernel.config().sections), {
        response: json,
        detail: { operationId: 'getConfigSchema', summary: 'The JSON Schema of the config file', tags: ['config'] },
      }),
  )
}

/** A plugin as it is listed. */
export type PluginView = ReturnType<typeof toView>

const ids = t.Array(t.String())
const report = {
  keys: t.Array(t.String(), { description: 'Keys whose values changed' }),
  started: ids,
  restarted: ids,
  reconfigured: ids,
  stopped: ids,
  needsRestart: t.Array(t.String(), { description: 'Plugins and keys that take effect at the next start only' }),
}
const fileAt = t.String({ description: 'Where it was written' })

/** The changes, for administrators. */
export function settingsWrites(kernel: Kernel, writer: Writer): RouteGroup {
  const known = (id: string) => {
    if (!kernel.plugins().some((plugin) => plugin.id === id))
      throw new GatewayError('not_found', `There is no plugin ${JSON.stringify(id)}: GET /api/plugins lists them.`, { param: 'id' })
  }
  const toggle = async (id: string, enabled: boolean, by: string) => {
    if (!enabled) known(id)
    if (!enabled && id === 'settings')
      throw new GatewayError('conflict', 'Without settings nothing could be switched on again: switch it off in the config file.')
    const done = await writer.patch({ [id]: { enabled } }, by)
    await writer.keep()
    return toReport(done)
  }
  const params = t.Object({ id: t.String({ minLength: 1, maxLength: 100 }) })
  return guard(
    admin,
    (app) =>
      app
        .patch(
          '/api/config',
          async ({ body, principal }) => {
            const done = await writer.patch(body, principal.id)
            await writer.keep()
            return toReport(done)
          },
          {
            body: t.Object(
              {},
              { additionalProperties: true, description: 'A JSON merge patch (RFC 7396) of the config: null removes a key, lists are replaced whole' },
            ),
            response: t.Object({ ...report, file: fileAt }),
            detail: { operationId: 'patchConfig', summary: 'Change the config, of what runs and in its file, whose comments stay', tags: ['config'] },
          },
        )
        .post('/api/config/reload', async ({ principal }) => toReport(await writer.reload({ by: principal.id })), {
          response: t.Object(report),
          detail: { operationId: 'reloadConfig', summary: 'Take the config as its file says now', tags: ['config'] },
        })
        .post('/api/plugins/:id/enable', ({ params, principal }) => toggle(params.id, true, principal.id), {
          params,
          response: t.Object({ ...report, file: fileAt }),
          detail: { operationId: 'enablePlugin', summary: 'Switch a plugin on', tags: ['plugins'] },
        })
        .post('/api/plugins/:id/disable', ({ params, principal }) => toggle(params.id, false, principal.id), {
          params,
          response: t.Object({ ...report, file: fileAt }),
          detail: { operationId: 'disablePlugin', summary: 'Switch a plugin off', tags: ['plugins'] },
        })
        .post(
          '/api/plugins/:id/reload',
          async ({ params, principal }) => {
            known(params.id)
            return toReport(await writer.reload({ restart: [params.id], by: principal.id }))
          },
          {
            params,
            response: t.Object(report),
            detail: { operationId: 'reloadPlugin', summary: 'Set a plugin up anew; a third party’s module is loaded again', tags: ['plugins'] },
          },
        ),
    { deadline: 120_000, bodyLimit: 262_144 },
  )
}

function toReport<R extends ReloadReport>({ keys, started, restarted, reconfigured, stopped, needsRestart, ...rest }: R) {
  const lists = { keys: [...keys], started: [...started], restarted: [...restarted], reconfigured: [...reconfigured], stopped: [...stopped] }
  return { ...(rest as Omit<R, keyof ReloadReport>), ...lists, needsRestart: [...needsRestart] }
}

function toView({ id, version, summary, state, reason, from, descriptor }: PluginInfo) {
  const { requires = {}, optional = {}, provides = {}, paths = [], events = [], scopes = [] } = descriptor
  const required = Object.values(requires).map((ref) => ref.id)
  return {
    ...{ id, version, summary, state },
    ...(reason === undefined ? {} : { reason }),
    from,
    usesKernel: [...required, ...Object.values(optional).map((ref) => ref.id)].includes('kernel'),
    requires: required,
    provides: Object.values(provides).map((ref) => ref.id),
    paths: [...paths],
    events: events.map(({ type }) => type),
    scopes: scopes.map((scope) => scope.id),
  }
}
