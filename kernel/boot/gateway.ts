/** One gateway: its parts put together, its plugins set up on them, changed while they run, and ended. */
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { createBus } from '../bus/bus.ts'
import { changedKeys, readConfig, redactConfig } from '../config/index.ts'
import { databaseServer, type OpenDatabase, openDatabase } from '../contract/database.ts'
import { door } from '../contract/door.ts'
import { GatewayError } from '../contract/errors.ts'
import { isLoopbackHost } from '../contract/host.ts'
import { type Kernel, type KernelStats, kernel, type PluginInfo, type ReloadOptions, type ReloadReport, statSources } from '../contract/kernel-service.ts'
import { type RequestLimit, requestLimits, type StreamLimit, streamLimits } from '../contract/limits.ts'
import { certificates, proxies } from '../contract/listener.ts'
import { authMethods, gatekeeper } from '../contract/principal.ts'
import { formatProblem, PlanError } from '../contract/problem.ts'
import { socketServer } from '../contract/socket.ts'
import { answerWatch } from '../contract/stream.ts'
import type { CompiledGroup } from '../http/compile.ts'
import { Http } from '../http/http.ts'
import { listen } from '../http/listen.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { systemClock } from './clock.ts'
import { createFaults } from './faults.ts'
import type { Instance } from './instance.ts'
import { configPatched } from './kernel-events.ts'
import { renewPlugin } from './load.ts'
import type { LogFactory } from './log.ts'
import type { Plan } from './plan.ts'
import { assertSound, type GatewayOptions, hasUrl, type Planned, planFrom } from './planning.ts'
import { Plugins } from './plugins.ts'
import { Slots } from './slots.ts'

/** What in-process callers name as the port when config says "any free one". */
export const defaultPort = 4766

/** Keys that are read once, at the start. */
const fixedKeys = /^gateway\.(host|port|allowPublicBind|tls)\b/

/** The version of the package. */
export const version: string = manifest.version

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

/** What it is made from. */
export interface GatewayParts extends Planned {
  readonly options: GatewayOptions
  readonly runtime: Runtime
  readonly logFor: LogFactory
}

/** Before it is open there are no transactions, and no error is its own. */
const closed: Pick<OpenDatabase, 'inTransaction' | 'outsideTransaction' | 'isConnectionError'> = {
  inTransaction: () => false,
  outsideTransaction: (body) => body(),
  isConnectionError: () => false,
}

/** Puts the parts together; nothing runs yet. `lay` sets up the plugins of the plan that all others stand on, `start` those of the whole plan; `stop` ends what there is. */
export function createGateway({ plan: base, raw, options, runtime, logFor }: GatewayParts) {
  const { clock = systemClock, redactor } = options
  const { gateway: config } = base.resolved
  let running: Planned = { plan: base, raw }
  let open: OpenDatabase | undefined
  const database = () => open ?? closed
  const opened = (plugin: string, what: string) => open ?? refuse(plugin, what)
  const isUnavailable = (error: unknown) => database().isConnectionError(error)
  const redact = (text: string) => redactor.apply(text)

  const faults = createFaults({ logFor, bus: () => bus, redact, database })
  const bus = createBus({ clock, log: logFor('kernel'), onError: faults.report, database })
  const slots = new Slots(faults.report, isUnavailable)
  for (const method of options.authMethods ?? []) slots.add(authMethods.id, method, { owner: 'kernel', planIndex: -1, order: -100 })
  const http: Http = new Http({
    config,
    socketServer: () => plugins.service(socketServer),
    requestLimits: () => slots.items(requestLimits.id) as readonly RequestLimit[],
    streamLimits: () => slots.items(streamLimits.id) as readonly StreamLimit[],
    clock,
    boundToLoopback: isLoopbackHost(config.host),
    isUnavailable,
    onError: faults.report,
  })
  http.setOrigin(config.host, config.port || defaultPort)
  const drain = (groups?: ReadonlySet<CompiledGroup>) => http.drain(running.plan.resolved.gateway.shutdownDeadlineMs, groups)
  const plugins: Plugins = new Plugins({
    ...{ bus, slots, clock, dataDir: raw.dataDir, logFor, redact, onError: faults.report, drain },
    kernelService: (plugin, id) => (id === kernel.id && opened(plugin, `service "${id}"`) ? service : undefined),
    database: opened,
    setTable(table) {
      http.table = table
      http.door = plugins.service(door)
      http.answers = plugins.service(answerWatch)
      http.proxies = plugins.service(proxies)
      http.gatekeeper = plugins.service(gatekeeper)
    },
  })

  /** What the config says now, or would say with that text. The database stays the one that is open. */
  async function read(text?: string): Promise<Planned> {
    const next = readConfig(options.configText === undefined ? { ...options, fileText: text } : { ...options, configText: text ?? running.raw.text })
    return { raw: next, plan: await planFrom(next, options, { isElsewhere: hasUrl(raw) }) }
  }

  async function reload({ text, restart = [], by }: ReloadOptions): Promise<ReloadReport> {
    for (const { plugin, from } of running.plan.order) if (restart.includes(plugin.id)) renewPlugin(from, running.raw.baseDir)
    const next = await read(text)
    const { resolved } = assertSound(next.plan)
    keepSecret(next.plan)
    const change = await plugins.change(next.plan, new Set(restart))
    const keys = changedKeys(running.plan.resolved.sections, resolved.sections)
    running = next
    http.configure(resolved.gateway)
    if (keys.some((key) => key.startsWith('log.'))) options.log?.(resolved.log)
    const report = { keys, ...change, needsRestart: [...change.needsRestart, ...keys.filter((key) => fixedKeys.test(key))] }
    await bus.publish('kernel', configPatched, { ...report, by: by ?? null })
    return report
  }

  function keepSecret({ resolved }: Plan): void {
    for (const { value } of resolved.secrets) redactor.add(value)
  }

  /** Reloads one after the other. */
  let reloading: Promise<unknown> = Promise.resolve()
  const service: Kernel = {
    ...{ version, startedAt: clock.now(), dataDir: raw.dataDir, runtime: `${runtime.name} ${runtime.version}` },
    get database() {
      return opened('kernel', 'database')
    },
    plugins: () => running.plan.order.map((planned) => pluginInfo(planned, plugins.running.get(planned.plugin.id))),
    routes: () => http.table.routes,
    routeGroups: () => http.table.groups,
    eventTypes: bus.types,
    scopes: () => running.plan.scopes,
    statSources: () => [bus.stats, () => http.stats(), faults.stats, ...(slots.items(statSources.id) as (() => KernelStats)[])],
    onRequest: (listener) => http.onRequest(listener),
    config() {
      const { plan, raw } = running
      const { text, file } = raw
      return { values: redactConfig(plan.resolved), sections: plan.sections, text, file, path: file ?? join(raw.baseDir, 'portico.toml') }
    },
    references: () => running.plan.resolved.secrets.flatMap(({ section, key, reference }) => (reference === null ? [] : [{ section, key, reference }])),
    check: async (text) => (await read(text)).plan.problems.map(formatProblem),
    reload(asked = {}) {
      const next = reloading.then(() => reload(asked))
      reloading = next.catch(() => undefined)
      return next
    },
    ...{ endProcess: options.endProcess, report: faults.report, redact },
    revoke: (via) => http.revoke(via),
    subscribeAll: bus.subscribeAll,
  }

  let listening: Awaited<ReturnType<typeof listen>> | undefined
  async function end(): Promise<void> {
    http.closeIntake()
    const steps = [() => reloading, () => drain(), () => listening?.close(), () => plugins.stop(), bus.stop, () => plugins.end()]
    for (const step of steps) {
      try {
        await step()
      } catch (error) {
        logFor('kernel').error('a step of the stop failed', { error: String(error) })
      }
    }
  }

  let stopping: Promise<void> | undefined
  const stop = () => (stopping ??= end())
  return {
    stop,
    async lay(): Promise<void> {
      keepSecret(base)
      await plugins.lay(base)
      open = plugins.service(openDatabase)
      if (!open) throw new PlanError(base.problems)
    },
    async start(plan: Plan): Promise<Gateway> {
      running = { plan, raw }
      keepSecret(plan)
      await plugins.start(plan)
      const given = { certificates: plugins.service(certificates), hooks: plugins.service(socketServer)?.hooks }
      if (options.listen !== false) listening = await listen({ http, config: plan.resolved.gateway, runtime, ...given })
      return {
        ...{ url: listening?.url ?? null, kernel: service, dataDir: raw.dataDir, stop },
        socketPath: plugins.service(databaseServer)?.socketPath ?? null,
        fetch: async (request) => http.handle(request, { address: '' }),
      }
    },
  }
}

function refuse(plugin: string, what: string): never {
  throw new GatewayError('internal_error', `It is set up before the database is open: it has no ${what}.`, { plugin })
}

function pluginInfo({ plugin, from, file }: Plan['order'][number], instance: Instance | undefined): PluginInfo {
  const { id, version, summary } = plugin
  return { id, version, summary, state: instance?.state ?? 'pending', reason: instance?.reason, from, file, descriptor: plugin }
}
