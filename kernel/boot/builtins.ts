/** The plugins that come with the package. They load, and import, like any other. */

/** Loads a plugin's module; its default export is the plugin. */
export type PluginLoader = () => Promise<{ default: unknown }>

/** Built-in plugins by id. Each is on unless its config section says `enabled = false`. */
export const builtins: Readonly<Record<string, PluginLoader>> = {
  pglite: () => import('../../plugins/pglite/index.ts'),
  'event-log': () => import('../../plugins/event-log/index.ts'),
  limits: () => import('../../plugins/limits/index.ts'),
  'auth-token': () => import('../../plugins/auth-token/index.ts'),
  'auth-none': () => import('../../plugins/auth-none/index.ts'),
  'auth-pairing': () => import('../../plugins/auth-pairing/index.ts'),
  events: () => import('../../plugins/events/index.ts'),
  models: () => import('../../plugins/models/index.ts'),
  'provider-openai-compatible': () => import('../../plugins/provider-openai-compatible/index.ts'),
  discovery: () => import('../../plugins/discovery/index.ts'),
  'provider-demo': () => import('../../plugins/provider-demo/index.ts'),
  openai: () => import('../../plugins/openai/index.ts'),
  chat: () => import('../../plugins/chat/index.ts'),
  settings: () => import('../../plugins/settings/index.ts'),
  egress: () => import('../../plugins/egress/index.ts'),
  health: () => import('../../plugins/health/index.ts'),
  metrics: () => import('../../plugins/metrics/index.ts'),
  backup: () => import('../../plugins/backup/index.ts'),
  diagnostics: () => import('../../plugins/diagnostics/index.ts'),
  docs: () => import('../../plugins/docs/index.ts'),
}

/** Those that are added where the caller names the plugins himself, each with the service it is there for: unless one of his provides that. */
export const infrastructure: Readonly<Record<string, string>> = { pglite: 'database-server', 'event-log': 'event-log' }

/** Begins what takes longest at a start, compiling the embedded database; with `database.url` it goes unused. Call it before `startGateway` is imported. */
export async function prepareStart(): Promise<void> {
  const { warmWorker } = await import('../../plugins/pglite/workers.ts')
  warmWorker()
}
