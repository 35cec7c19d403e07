/** Starts a gateway: config, plan, database, plugins, route table, listener; and stops it in the reverse order. */
import manifest from '../../package.json' with { type: 'json' }
import { createBus } from '../bus/bus.ts'
import { exposedSecrets, isSwitchedOff, kernelSections, type RawConfig, type ReadConfigOptions, readConfig, resolveConfig } from '../config/index.ts'
import { isLoopbackHost } from '../contract/host.ts'
import type { Kernel } from '../contract/kernel-service.ts'
import { type RequestLimit, requestLimits } from '../contract/limits.ts'
import type { Clock, Plugin } from '../contract/plugin.ts'
import { type AuthMethod, authMethods } from '../contract/principal.ts'
import { PlanError } from '../contract/problem.ts'
import { t } from '../contract/schema.ts'
import { createHttp, type Http } from '../http/http.ts'
import { listen } from '../http/listen.ts'
import { assembleTable } from '../http/table.ts'
import { currentRuntime } from '../runtime/index.ts'
import { isConnectionError } from '../store/connection-errors.ts'
import { builtins, infrastructure } from './builtins.ts'
import { systemClock } from './clock.ts'
import { type Data, type DataOptions, isProvider, noDatabase, openData } from './data.ts'
import { createFaults } from './faults.ts'
import type { Instance, InstanceHost } from './instance.ts'
import { createKernelService } from './kernel-service.ts'
import { publishStates, readyPlugins, setupPlugins, tableEntry } from './lifecycle.ts'
import { type LoadedPlugin, loadPlugins } from './load.ts'
import { type LogFactory, type LogOptions, Redactor, silentLog } from './log.ts'
import { makePlan, type Plan } from './plan.ts'
import { Slots } from './slots.ts'

/** What in-process callers name as the port when config says "any free one". */
export const defaultPort = 4766

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
  return { plan: await planFrom(raw, readEarly(raw).database.url, options), raw }
}

/** Starts a gateway. Rejects with a `PlanError` naming every problem, or with what kept it from starting; then nothing is left open. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const raw = readConfig(options)
  const early = readEarly(raw)
  const { url } = early.database
  const redactor = new Redactor()
  for (const secret of [...(options.secrets ?? []), ...early.secrets.map(({ value }) => value)]) redactor.add(secret)
  const logFor = options.log?.(early.log, redactor) ?? silentLog
  const clock = options.clock ?? systemClock
  const undo: (() => Promise<unknown>)[] = []
  const unwind = async () => {
    for (const step of undo.splice(0).reverse())
      await step().catch((error: unknown) => logFor('kernel').error('a step of the stop failed', { error: String(error) }))
  }
  try {
    // The database opens in its own thread while the plugins' modules load: start-up is the longer of the two, not their sum.
    const { promise: server, resolve: found } = Promise.withResolvers<LoadedPlugin | undefined>()
    const isSound = raw.problems.length === 0 && !early.problems.some(({ where }) => kernelSections.some(({ id }) => id === where))
    const data: DataOptions = { raw, url, server, clock, logFor, redactor, undo }
    const opening = isSound ? openData(data) : Promise.reject(new PlanError(early.problems))
    opening.catch(() => {})
    const [planned, opened] = await Promise.allSettled([planFrom(raw, url, options, found), opening])
    if (planned.status === 'rejected') throw planned.reason
    const plan = planned.value
    if (plan.problems.length > 0) throw new PlanError(plan.problems)
    if (opened.status === 'rejected') throw opened.reason
    for (const secret of plan.resolved.secrets) redactor.add(secret.value)
    return await run(plan, opened.value, { ...data, options, unwind })
  } catch (error) {
    await unwind()
    throw error
  }
}

/** The kernel's own sections. Plugins are not loaded yet: what stands in their sections, or is meant for them, is judged with the plan. */
function readEarly(raw: RawConfig) {
  const unread = Object.keys(builtins).map((id) => ({ id, schema: t.Object({}, { additionalProperties: true }), aliases: [] }))
  return resolveConfig(raw, [...kernelSections, ...unread], [])
}

interface Start extends DataOptions {
  readonly options: GatewayOptions
  unwind(): Promise<void>
}

async function run(plan: Plan, { store, server, socketPath }: Data, start: Start): Promise<Gateway> {
  const { options, raw, clock, logFor, undo } = start
  for (const warning of exposedSecrets(raw, plan.resolved.secrets)) logFor('kernel').warn(warning)
  const { gateway: config } = plan.resolved
  const runtime = await currentRuntime()
  const redact = (text: string) => start.redactor.apply(text)
  const faults = createFaults(logFor, () => bus, redact)
  const bus = createBus({ clock, log: logFor('kernel'), onError: faults.report })
  const slots = new Slots(faults.report)
  for (const method of options.authMethods ?? []) slots.add(authMethods.id, method, { owner: 'kernel', planIndex: -1, order: -100 })

  const http: Http = createHttp({
    config,
    authMethods: () => slots.items(authMethods.id) as readonly AuthMethod[],
    requestLimits: () => slots.items(requestLimits.id) as readonly RequestLimit[],
    clock,
    boundToLoopback: isLoopbackHost(config.host),
    isUnavailable: isConnectionError,
    onError: faults.report,
  })
  http.setOrigin(config.host, config.port || defaultPort)
  const instances = new Map<string, Instance>(server ? [[server.id, server]] : [])
  const kernel = createKernelService({
    ...{ version, startedAt: clock.now(), dataDir: raw.dataDir, configFile: raw.file, runtime: `${runtime.name} ${runtime.version}` },
    ...{ plan, instances, http, bus, store, slots, faults: faults.count },
  })
  const host: InstanceHost = {
    ...{ bus, slots, clock, logFor, db: store.db, dataDir: raw.dataDir, onError: faults.report, redact },
    service: (id) => (id === 'kernel' ? kernel : findService(instances, id)),
  }

  bus.register(plan.events)
  undo.push(() => bus.stop())
  undo.push(() => stopPlugins(instances, bus))
  await setupPlugins(plan, store, host, instances)
  putTable(http, instances)
  await readyPlugins(instances, host)
  putTable(http, instances)
  await publishStates(instances.values(), bus)

  undo.push(async () => {
    http.closeIntake()
    http.endEvents()
    await http.drain(config.shutdownDeadlineMs)
  })
  const listening = options.listen === false ? undefined : await listen({ http, config, runtime, log: logFor('kernel') })
  if (listening) undo.splice(-1, 0, listening.close)

  let stopping: Promise<void> | undefined
  return {
    url: listening?.url ?? null,
    kernel,
    dataDir: raw.dataDir,
    socketPath,
    fetch: async (request) => http.handle(request, { address: '' }),
    stop: () => (stopping ??= start.unwind()),
  }
}

/** Loads and plans. `found` is told of the plugin that serves the database as soon as it is loaded, or that there is none. */
async function planFrom(raw: RawConfig, url: string | undefined, options: GatewayOptions, found?: (server?: LoadedPlugin) => void): Promise<Plan> {
  const { plugins: instead, extraPlugins = [] } = options
  const given = [...(instead ?? []), ...extraPlugins].map((plugin) => ({ plugin, from: instead ? 'builtin' : 'given' }))
  const isLacking = (id: string) => id in infrastructure && !given.some((each) => isProvider(each, infrastructure[id]))
  const isWanted = (id: string) => !isSwitchedOff(raw, id) && (!instead || isLacking(id))
  const onLoaded = (loaded: LoadedPlugin) => isProvider(loaded) && found?.(loaded)
  given.forEach(onLoaded)
  const { plugins, problems } = await loadPlugins({
    builtins: Object.fromEntries(Object.entries(builtins).filter(([id]) => isWanted(id))),
    specifiers: raw.plugins,
    baseDir: raw.baseDir,
    onLoaded,
  })
  found?.()
  const all = [...plugins, ...given]
  const planned = url === undefined ? all : all.filter((loaded) => !isProvider(loaded))
  const plan = makePlan(planned, raw, [...Object.keys(builtins), ...all.map(({ plugin }) => plugin.id)])
  const missing = url === undefined && !planned.some((loaded) => isProvider(loaded)) ? [noDatabase] : []
  return { ...plan, problems: [...problems, ...plan.problems, ...missing] }
}

function putTable(http: Http, instances: ReadonlyMap<string, Instance>): void {
  const { table, problems } = assembleTable([...instances.values()].map(tableEntry))
  if (problems.length > 0) throw new PlanError(problems)
  http.table = table
}

function findService(instances: ReadonlyMap<string, Instance>, id: string): unknown {
  for (const instance of instances.values()) {
    if (instance.state === 'ready' || instance.state === 'pending') {
      const service = instance.services().get(id)
      if (service !== undefined) return service
    }
  }
  return undefined
}

/** Stops all but the one that serves the database: the others' end is written there. */
async function stopPlugins(instances: ReadonlyMap<string, Instance>, bus: ReturnType<typeof createBus>): Promise<void> {
  const stopped = [...instances.values()].reverse().filter(({ state, planned }) => (state === 'ready' || state === 'pending') && !isProvider(planned))
  for (const instance of stopped) await instance.unwind('stopped')
  await publishStates(stopped, bus)
}
