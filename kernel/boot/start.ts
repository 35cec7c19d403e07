/** Starts a gateway: config, plan, database, plugins, route table, listener; and stops it in the reverse order. */
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { createBus } from '../bus/bus.ts'
import { exposedSecrets, isSwitchedOff, kernelSections, type RawConfig, type ReadConfigOptions, readConfig, resolveConfig } from '../config/index.ts'
import { isLoopbackHost } from '../contract/host.ts'
import type { Kernel } from '../contract/kernel-service.ts'
import type { Clock, Plugin } from '../contract/plugin.ts'
import { type AuthMethod, authMethods } from '../contract/principal.ts'
import { PlanError } from '../contract/problem.ts'
import { createHttp, type Http } from '../http/http.ts'
import { assembleTable } from '../http/table.ts'
import { currentRuntime } from '../runtime/index.ts'
import { isConnectionError } from '../store/connection-errors.ts'
import { lockDataDir } from '../store/lock.ts'
import { openStore, type Store } from '../store/open.ts'
import { builtins, infrastructure, type PluginLoader } from './builtins.ts'
import { systemClock } from './deadline.ts'
import { createFaults } from './faults.ts'
import type { Instance, InstanceHost } from './instance.ts'
import { createKernelService } from './kernel-service.ts'
import { publishStates, readyPlugins, setupPlugins, tableEntry } from './lifecycle.ts'
import { loadPlugins } from './load.ts'
import { fixedToken, localPrincipal, newLocalToken, writeRunFiles } from './local-access.ts'
import { type LogFactory, type LogOptions, Redactor, silentLog } from './log.ts'
import { makePlan, type Plan, providedBy } from './plan.ts'
import { Slots } from './slots.ts'

/** What in-process callers name as the port when config says "any free one". */
export const defaultPort = 4766

/** The version of the package. */
export const version: string = manifest.version

/** How a gateway is started. */
export interface GatewayOptions extends ReadConfigOptions {
  /** Instead of the built-in plugins. */
  plugins?: readonly Plugin[]
  /** Beside them. */
  extraPlugins?: readonly Plugin[]
  /** False: no listener, no run files; the app is called through `fetch`. */
  listen?: boolean
  clock?: Clock
  /** Makes the loggers, once `log` is configured and the secrets are known. */
  log?(options: LogOptions, redactor: Redactor): LogFactory
}

/** A running gateway. */
export interface Gateway {
  /** `http://host:port`, or null without a listener. */
  readonly url: string | null
  readonly dataDir: string
  /** A bearer with all scopes, for loopback and in-process calls; new at each start. */
  readonly localToken: string
  readonly kernel: Kernel
  /** Calls the app in process, as from loopback. */
  fetch(request: Request): Promise<Response>
  /** Drains and stops; the same promise however often it is called. */
  stop(): Promise<void>
}

/** Plans without opening a database: for `config check` and the JSON Schema. Its problems are in the plan. */
export async function planGateway(options: GatewayOptions): Promise<{ plan: Plan; raw: RawConfig }> {
  const raw = readConfig(options)
  return { plan: await planFrom(raw, options), raw }
}

/** Starts a gateway. Rejects with a `PlanError` naming every problem, or with what kept it from starting; then nothing is left open. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const raw = readConfig(options)
  const early = resolveConfig(raw, kernelSections, Object.keys(builtins))
  const redactor = new Redactor()
  for (const secret of early.secrets) redactor.add(secret.value)
  const logFor = options.log?.(early.log, redactor) ?? silentLog
  const undo: (() => Promise<unknown>)[] = []
  const unwind = async () => {
    for (const step of undo.splice(0).reverse())
      await step().catch((error: unknown) => logFor('kernel').error('a step of the stop failed', { error: String(error) }))
  }
  try {
    // The database opens in its own thread while the plugins' modules load: start-up is the longer of the two, not their sum.
    const isSound = raw.problems.length === 0 && !early.problems.some(({ where }) => kernelSections.some(({ id }) => id === where))
    const opening = isSound ? openData(raw, early.database.url, logFor, undo) : Promise.reject(new PlanError(early.problems))
    opening.catch(() => {})
    const [planned, opened] = await Promise.allSettled([planFrom(raw, options), opening])
    if (planned.status === 'rejected') throw planned.reason
    const plan = planned.value
    if (plan.problems.length > 0) throw new PlanError(plan.problems)
    if (opened.status === 'rejected') throw opened.reason
    for (const secret of plan.resolved.secrets) redactor.add(secret.value)
    return await run(plan, raw, opened.value, { options, logFor, redactor, undo, unwind })
  } catch (error) {
    await unwind()
    throw error
  }
}

interface Start {
  readonly options: GatewayOptions
  readonly logFor: LogFactory
  readonly redactor: Redactor
  readonly undo: (() => Promise<unknown>)[]
  unwind(): Promise<void>
}

async function run(plan: Plan, raw: RawConfig, store: Store, start: Start): Promise<Gateway> {
  const { options, logFor, undo } = start
  for (const warning of exposedSecrets(raw, plan.resolved.secrets)) logFor('kernel').warn(warning)
  const { gateway: config } = plan.resolved
  const clock = options.clock ?? systemClock
  const runtime = await currentRuntime()
  const redact = (text: string) => start.redactor.apply(text)
  const faults = createFaults(logFor, () => bus, redact)
  const bus = createBus({ clock, log: logFor('kernel'), onError: faults.report })
  const slots = new Slots(faults.report)
  const localToken = newLocalToken()
  start.redactor.add(localToken)
  addLocalMethods(slots, localToken, options.env.PORTICO_TOKEN, start.redactor)

  const http: Http = createHttp({
    config,
    authMethods: () => slots.items(authMethods.id) as readonly AuthMethod[],
    log: logFor('kernel'),
    clock,
    boundToLoopback: isLoopbackHost(config.host),
    isUnavailable: isConnectionError,
    onError: faults.report,
  })
  http.setOrigin(config.host, config.port || defaultPort)
  const instances = new Map<string, Instance>()
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
  const url = options.listen === false ? null : await listen(http, config, store, raw.dataDir, { runtime, localToken, startedAt: clock.now(), undo })

  let stopping: Promise<void> | undefined
  return {
    url,
    kernel,
    localToken,
    dataDir: raw.dataDir,
    fetch: async (request) => http.handle(request, { address: '' }),
    stop: () => (stopping ??= start.unwind()),
  }
}

async function planFrom(raw: RawConfig, options: GatewayOptions): Promise<Plan> {
  const instead = options.plugins !== undefined
  const known = instead ? Object.fromEntries(infrastructure.map((id) => [id, builtins[id] as PluginLoader])) : builtins
  const disabled = new Set(Object.keys(known).filter((id) => isSwitchedOff(raw, id)))
  const { plugins, problems } = await loadPlugins({
    builtins: known,
    disabled,
    specifiers: raw.plugins,
    baseDir: raw.baseDir,
  })
  const given = [...(options.plugins ?? []), ...(options.extraPlugins ?? [])].map((plugin) => ({ plugin, from: instead ? 'builtin' : 'given' }))
  const brought = given.flatMap(({ plugin }) => providedBy(plugin))
  const asked = plugins.filter(({ plugin }) => !infrastructure.includes(plugin.id) || !providedBy(plugin).some((id) => brought.includes(id)))
  const plan = makePlan([...asked, ...given], raw, Object.keys(builtins))
  return { ...plan, problems: [...problems, ...plan.problems] }
}

async function openData(raw: RawConfig, url: string | undefined, logFor: LogFactory, undo: Start['undo']): Promise<Store> {
  const lock = await lockDataDir(raw.dataDir)
  undo.push(() => lock.release())
  const store = await openStore({ url, dataDir: raw.dataDir, log: logFor('kernel') })
  undo.push(() => store.close())
  return store
}

function addLocalMethods(slots: Slots, localToken: string, envToken: string | undefined, redactor: Redactor): void {
  const at = { owner: 'kernel', planIndex: -1, order: -100 }
  slots.add(authMethods.id, fixedToken('local', localToken, localPrincipal('local'), { loopbackOnly: true }), at)
  if (!envToken) return
  redactor.add(envToken)
  slots.add(authMethods.id, fixedToken('env', envToken, localPrincipal('env'), { loopbackOnly: false }), at)
}

function putTable(http: Http, instances: ReadonlyMap<string, Instance>): void {
  const { table, problems } = assembleTable([...instances.values()].map(tableEntry))
  if (problems.length > 0) throw new PlanError(problems)
  http.setTable(table)
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

async function stopPlugins(instances: ReadonlyMap<string, Instance>, bus: ReturnType<typeof createBus>): Promise<void> {
  const stopped = [...instances.values()].reverse().filter(({ state }) => state === 'ready' || state === 'pending')
  for (const instance of stopped) await instance.unwind('stopped')
  await publishStates(stopped, bus)
}

interface ListenOptions {
  readonly runtime: Awaited<ReturnType<typeof currentRuntime>>
  readonly localToken: string
  readonly startedAt: number
  readonly undo: Start['undo']
}

async function listen(http: Http, config: Plan['resolved']['gateway'], store: Store, dataDir: string, options: ListenOptions): Promise<string> {
  const server = await options.runtime.serve({
    ...{ host: config.host, port: config.port, maxBodyBytes: config.httpBodyLimitBytes },
    ...{ handle: (request, peer) => http.handle(request, peer), sockets: http.sockets },
  })
  options.undo.splice(-1, 0, () => server.close())
  http.setOrigin(server.host, server.port)
  const host = server.host.includes(':') ? `[${server.host}]` : server.host
  const url = `http://${host}:${server.port}`
  const run = { url, pid: process.pid, startedAt: new Date(options.startedAt).toISOString(), socket: store.socketPath && join(store.socketPath) }
  options.undo.push(await writeRunFiles(dataDir, run, options.localToken))
  return url
}
