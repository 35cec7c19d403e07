/** The plugins that come with the package. They load, and import, like any other. */

/** Loads a plugin's module; its default export is the plugin. */
export type PluginLoader = () => Promise<{ default: unknown }>

/** Built-in plugins by id. Each is on unless its config section says `enabled = false`. */
export const builtins: Readonly<Record<string, PluginLoader>> = {
  'data-folder': () => import('./data-folder/index.ts'),
  pglite: () => import('./pglite/index.ts'),
  database: () => import('./database/index.ts'),
  'event-log': () => import('./event-log/index.ts'),
  // Before the others, so that it catches what they throw until they have ended.
  diagnostics: () => import('./diagnostics/index.ts'),
  sockets: () => import('./sockets/index.ts'),
  tls: () => import('./tls/index.ts'),
  proxies: () => import('./proxies/index.ts'),
  door: () => import('./door/index.ts'),
  auth: () => import('./auth/index.ts'),
  audit: () => import('./audit/index.ts'),
  limits: () => import('./limits/index.ts'),
  'auth-token': () => import('./auth-token/index.ts'),
  'auth-none': () => import('./auth-none/index.ts'),
  'auth-pairing': () => import('./auth-pairing/index.ts'),
  events: () => import('./events/index.ts'),
  models: () => import('./models/index.ts'),
  'provider-openai-compatible': () => import('./provider-openai-compatible/index.ts'),
  'provider-openai': () => import('./provider-openai/index.ts'),
  'provider-anthropic': () => import('./provider-anthropic/index.ts'),
  'provider-google': () => import('./provider-google/index.ts'),
  discovery: () => import('./discovery/index.ts'),
  'provider-demo': () => import('./provider-demo/index.ts'),
  openai: () => import('./openai/index.ts'),
  rpc: () => import('./rpc/index.ts'),
  chat: () => import('./chat/index.ts'),
  settings: () => import('./settings/index.ts'),
  egress: () => import('./egress/index.ts'),
  workspace: () => import('./workspace/index.ts'),
  tools: () => import('./tools/index.ts'),
  approvals: () => import('./approvals/index.ts'),
  runs: () => import('./runs/index.ts'),
  agents: () => import('./agents/index.ts'),
  health: () => import('./health/index.ts'),
  metrics: () => import('./metrics/index.ts'),
  backup: () => import('./backup/index.ts'),
  docs: () => import('./docs/index.ts'),
}

/** Those that are added where the caller names the plugins himself, each with the service it is there for: unless one of his provides that. */
export const infrastructure: Readonly<Record<string, string>> = {
  'data-folder': 'data-folder',
  pglite: 'database-server',
  database: 'database',
  'event-log': 'event-log',
  sockets: 'socket-server',
  tls: 'certificates',
  proxies: 'proxies',
  door: 'door',
  auth: 'gatekeeper',
}

/** Sections of the config that belong to a plugin of another name. */
export const sectionAliases: ReadonlyMap<string, string> = new Map([['bus', 'event-log']])

/** By plugin: keys of `[gateway]`, and the keys of the plugin's section that they are. */
export const gatewayAliases: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'auth-pairing': { requirePairing: 'requirePairing', nodeControl: 'nodeControl' },
  'auth-token': { tokens: 'tokens' },
  limits: { rateLimit: 'rateLimit', addressRateLimit: 'addressRateLimit' },
  chat: { web: 'web', webDistPath: 'webDistPath' },
  rpc: { maxBatchSize: 'maxBatchSize', wsHeartbeatMs: 'heartbeatMs', wsMaxMessageBytes: 'maxMessageBytes', wsMessageRateLimit: 'messageRateLimit' },
}

/** Begins what takes longest at a start, compiling the embedded database (with `database.url` it goes unused), and reads meanwhile what is needed when it is open. Call it before `startGateway` is imported. */
export async function prepareStart(): Promise<void> {
  const { warmWorker } = await import('./pglite/workers.ts')
  warmWorker()
  const { readAhead } = await import('./database/migrations.ts')
  readAhead(Object.keys(builtins).map((id) => new URL(`./${id}/migrations`, import.meta.url)))
}
