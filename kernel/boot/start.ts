/** Starts a gateway: config, plan, database, plugins, route table, listener; and stops it in the reverse order. */
import { existsSync } from 'node:fs'
import manifest from '../../package.json' with { type: 'json' }
import { builtins, infrastructure } from '../../plugins/builtins.ts'
import type { Bus } from '../bus/bus.ts'
import type { RawConfig, ReadConfigOptions, ResolvedSecret } from '../config/index.ts'
import { changedKeys, isSwitchedOff, readConfig } from '../config/index.ts'
import { databaseServer } from '../contract/database.ts'
import { isLoopbackHost } from '../contract/host.ts'
import type { Kernel, ReloadOptions, ReloadReport } from '../contract/kernel-service.ts'
import { type RequestLimit, requestLimits } from '../contract/limits.ts'
import type { Clock, Plugin } from '../contract/plugin.ts'
import { type AuthMethod, authMethods } from '../contract/principal.ts'
import { formatProblem, PlanError, type Problem } from '../contract/problem.ts'
import { socketServer } from '../contract/socket.ts'
import { Http } from '../http/http.ts'
import { listen } from '../http/listen.ts'
import { currentRuntime } from '../runtime/index.ts'
import { systemClock } from './clock.ts'
import { type Foundation, type FoundationOptions, layFoundation } from './foundation.ts'
import { configPatched, secretAccessed } from './kernel-events.ts'
import { createKernelService, type Running } from './kernel-service.ts'
import { type LoadedPlugin, loadPlugins, renewPlugin } from './load.ts'
import { type LogFactory, type LogOptions, Redactor, silentLog } from './log.ts'
import { foundation, isProvider, makePlan, type Plan } from './plan.ts'
import { Plugins } from './plugins.ts'

/** What in-process callers name as the port when config says "any free one". */
export const defaultPort = 4766

/** Keys that are read once, at the start. */
const fixedKeys = /^gateway\.(host|port|allowPublicBind|tls)\b/

/** The version of the package. */
export const version: string = manifest.version

/** How a gateway is started. */
export interface GatewayOptions extends ReadConfigOptions {
  /** Instead of the built-in plugins; the infrastructure they lack, such as a database, is added. */
  plugins?: readonly Plugin[]
  /** Beside them. */
  extraPlugins?: readonly Plugin[]
  /** Asked before those of the plugins. */
  authMethods?: readonly AuthMethod[]
  /** What must never be written. */
  secrets?: readonly string[]
  /** The process is the gateway's own, and this ends it in order: plugins may catch what nobody else in it does. */
  endProcess?(): void
  /** False: no listener; the app is called through `fetch`. */
  listen?: boolean
  clock?: Clock
  /** Makes the loggers, once `log` is configured and the secrets are known. */
  log?(options: LogOptions, redactor: Redactor): LogFactory
}

/** A running gateway. */
export interface Gateway {
  /** `http://host:port`, with `gateway.tls` https, or null without a listener. */
  readonly url: string | null
  readonly dataDir: string
  /** The embedded database's socket; null on PostgreSQL. */
  readonly socketPath: string | null
  readonly kernel: Kernel
  /** Calls the app in process, as from loopback. */
  fetch(request: Request): Promise<Response>
  /** Drains and stops; the same promise however often it is called. */
  stop(): Promise<void>
}

/** Plans without opening a database: for `config check` and the JSON Schema. Its problems are in the plan. */
export async function planGateway(options: GatewayOptions): Promise<{ plan: Plan; raw: RawConfig }> {
  const raw = readConfig(options)
  return { plan: await planFrom(raw, hasUrl(raw), options), raw }
}

/** Starts a gateway. Rejects with a `PlanError` naming every problem, or with what kept it from starting; then nothing is left open. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const raw = readConfig(options)
  const redactor = new Redactor()
  for (const secret of options.secrets ?? []) redactor.add(secret)
  const clock = options.clock ?? systemClock
  const undo: (() => Promise<unknown>)[] = []
  let logFor = silentLog
  const unwind = async () => {
    for (const step of undo.splice(0).reverse())
      await step().catch((error: unknown) => logFor('kernel').error('a step of the stop failed', { error: String(error) }))
  }
  const lay = async (loaded: readonly LoadedPlugin[]) => {
    const plan = makePlan(loaded, raw, [])
    logFor = options.log?.(plan.resolved.log, redactor) ?? silentLog
    return layFoundation({ plan, dataDir: raw.dataDir, clock, logFor, redactor, undo })
  }
  try {
    // The database opens in its own thread while the other plugins' modules load: start-up is the longer of the two, not their sum.
    const { promise: found, resolve: onFound } = Promise.withResolvers<readonly LoadedPlugin[]>()
    const planning = planFrom(raw, hasUrl(raw), options, onFound)
    // A folder that is not there yet is made when nothing is wrong any more: a start that is refused leaves none behind.
    const laying = (existsSync(raw.dataDir) && raw.problems.length === 0 ? found : planning.then(assertSound).then(() => found)).then(lay)
    const [planned, laid] = await Promise.allSettled([planning, laying])
    if (planned.status === 'rejected') throw planned.reason
    const plan = assertSound(planned.value)
    if (laid.status === 'rejected') throw laid.reason
    for (const secret of plan.resolved.secrets) redactor.add(secret.value)
    return await run(laid.value, { raw, plan, options, clock, logFor, redactor, undo, unwind })
  } catch (error) {
    await unwind()
    throw error
  }
}

/** The database is served elsewhere. */
function hasUrl({ table: { database } }: RawConfig): boolean {
  return Object(database).url !== undefined
}

function assertSound(plan: Plan): Plan {
  if (plan.problems.length > 0) throw new PlanError(plan.problems)
  return plan
}

interface Start extends Omit<FoundationOptions, 'dataDir'>, Running {
  readonly options: GatewayOptions
  unwind(): Promise<void>
}

async function run({ host, bus, slots, faults, database, socketPath, instances }: Foundation, start: Start): Promise<Gateway> {
  const { plan: first, options, clock, logFor, redactor, undo } = start
  let running: Running = start
  const { gateway: config } = first.resolved
  const runtime = await currentRuntime()
  for (const method of options.authMethods ?? []) slots.add(authMethods.id, method, { owner: 'kernel', planIndex: -1, order: -100 })

  const http: Http = new Http({
    config,
    authMethods: () => slots.items(authMethods.id) as readonly AuthMethod[],
    socketServer: () => plugins.service(socketServer),
    requestLimits: () => slots.items(requestLimits.id) as readonly RequestLimit[],
    clock,
    boundToLoopback: isLoopbackHost(config.host),
    isUnavailable: database.isConnectionError,
    onError: faults.report,
  })
  http.setOrigin(config.host, config.port || defaultPort)
  const plugins: Plugins = new Plugins({
    ...host,
    migrate: database.migrate,
    kernelService: (id) => (id === 'kernel' ? kernel : undefined),
    setTable(table) {
      http.table = table
    },
    drain: (groups) => http.drain(running.plan.resolved.gateway.shutdownDeadlineMs, groups),
  })

  /** What the config says now, or would say with that text. The database stays the one that is open. */
  async function read(text?: string): Promise<Running> {
    const raw = readConfig(options.configText === undefined ? { ...options, fileText: text } : { ...options, configText: text ?? running.raw.text })
    return { raw, plan: await planFrom(raw, hasUrl(start.raw), options) }
  }

  async function reload({ text, restart = [], by }: ReloadOptions): Promise<ReloadReport> {
    for (const { plugin, from } of running.plan.order) if (restart.includes(plugin.id)) renewPlugin(from, running.raw.baseDir)
    const next = await read(text)
    const { resolved } = assertSound(next.plan)
    for (const { value } of resolved.secrets) redactor.add(value)
    const change = await plugins.change(next.plan, new Set(restart))
    const keys = changedKeys(running.plan.resolved.sections, resolved.sections)
    running = next
    http.configure(resolved.gateway)
    if (keys.some((key) => key.startsWith('log.'))) options.log?.(resolved.log, redactor)
    const report = { keys, ...change, needsRestart: [...change.needsRestart, ...keys.filter((key) => fixedKeys.test(key))] }
    await bus.publish('kernel', configPatched, { ...report, by: by ?? null })
    await tellSecrets(next.plan, bus, ({ section, key }) => keys.some((changed) => `${section}.${key}`.startsWith(changed)))
    return report
  }

  /** Reloads one after the other. */
  let reloading: Promise<unknown> = Promise.resolve()
  const kernel: Kernel = createKernelService({
    ...{ version, startedAt: clock.now(), dataDir: start.raw.dataDir, runtime: `${runtime.name} ${runtime.version}` },
    ...{ plugins, http, bus, database, slots, faults, running: () => running },
    check: async (text) => (await read(text)).plan.problems.map(formatProblem),
    reload(asked = {}) {
      const next = reloading.then(() => reload(asked))
      reloading = next.catch(() => undefined)
      return next
    },
    endProcess: options.endProcess,
    report: faults.report,
    redact: host.redact,
  })
  undo.push(() => bus.stop())
  undo.push(() => plugins.stop())
  await plugins.start(first, instances)
  await tellSecrets(first, bus)
  undo.push(async () => {
    http.closeIntake()
    await reloading
    await http.drain(running.plan.resolved.gateway.shutdownDeadlineMs)
  })
  const listening =
    options.listen === false ? undefined : await listen({ http, config, runtime, hooks: plugins.service(socketServer)?.hooks, log: logFor('kernel') })
  if (listening) undo.splice(-1, 0, listening.close)

  let stopping: Promise<void> | undefined
  return {
    url: listening?.url ?? null,
    kernel,
    dataDir: start.raw.dataDir,
    socketPath,
    fetch: async (request) => http.handle(request, { address: '' }),
    stop: () => (stopping ??= start.unwind()),
  }
}

/** An event for each reference to a secret that was resolved. */
async function tellSecrets({ resolved }: Plan, bus: Bus, isMeant: (secret: ResolvedSecret) => boolean = () => true): Promise<void> {
  const references = resolved.secrets.filter((secret) => secret.reference !== null && isMeant(secret))
  await Promise.all(references.map(({ section, key, reference }) => bus.publish('kernel', secretAccessed, { section, key, reference: String(reference) })))
}

/** Loads and plans. `onFound` is told of the foundation's plugins as soon as all are loaded, or of those that there are. */
async function planFrom(raw: RawConfig, isElsewhere: boolean, options: GatewayOptions, onFound?: (loaded: readonly LoadedPlugin[]) => void): Promise<Plan> {
  const { plugins: instead, extraPlugins = [] } = options
  const given = [...(instead ?? []), ...extraPlugins].map((plugin) => ({ plugin, from: instead ? 'builtin' : 'given' }))
  const isLacking = (id: string) => id in infrastructure && !given.some((each) => isProvider(each, infrastructure[id] ?? ''))
  const isWanted = (id: string) => !isSwitchedOff(raw, id) && (!instead || isLacking(id))
  const isPlanned = (loaded: LoadedPlugin) => !(isElsewhere && isProvider(loaded, databaseServer.id))
  const base: LoadedPlugin[] = []
  const onLoaded = (loaded: LoadedPlugin) => {
    if (!isSwitchedOff(raw, loaded.plugin.id) && isPlanned(loaded) && isProvider(loaded, ...foundation)) base.push(loaded)
    if (foundation.every((service) => (isElsewhere && service === databaseServer.id) || base.some((each) => isProvider(each, service)))) onFound?.([...base])
  }
  given.forEach(onLoaded)
  const { plugins, problems } = await loadPlugins({
    builtins: Object.fromEntries(Object.entries(builtins).filter(([id]) => isWanted(id))),
    specifiers: raw.plugins,
    baseDir: raw.baseDir,
    onLoaded,
  })
  onFound?.(base)
  const all = [...plugins, ...given]
  const planned = all.filter(isPlanned)
  const plan = makePlan(planned, raw, [...Object.keys(builtins), ...all.map(({ plugin }) => plugin.id)])
  const missing = isElsewhere || planned.some((loaded) => isProvider(loaded, databaseServer.id)) ? [] : [noDatabase]
  return { ...plan, problems: [...problems, ...plan.problems, ...missing] }
}

const noDatabase: Problem = {
  ...{ where: 'database', key: 'url', what: 'there is no database: this is not set, and no loaded plugin serves one' },
  expected: '"postgres://…", or the plugin pglite, which embeds one, to be enabled',
}
