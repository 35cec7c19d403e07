/** The service `kernel`: what docs, settings, health, metrics and events are told of the kernel. */
import type { Bus } from '../bus/bus.ts'
import { configJsonSchema, redactConfig } from '../config/index.ts'
import type { ComponentHealth, Kernel, PluginInfo } from '../contract/kernel-service.ts'
import type { Http } from '../http/http.ts'
import type { Store } from '../store/open.ts'
import { afterCommit, inTransaction, outsideTransaction } from '../store/transactions.ts'
import type { Instance } from './instance.ts'
import type { Plan } from './plan.ts'

/** The kernel's parts, as the service reads them. */
export interface KernelParts {
  readonly version: string
  readonly runtime: string
  readonly startedAt: number
  readonly dataDir: string
  readonly configFile: string | null
  readonly plan: Plan
  readonly instances: ReadonlyMap<string, Instance>
  readonly http: Http
  readonly bus: Bus
  readonly store: Store
  faults(): number
}

/** Makes the service. */
export function createKernelService(parts: KernelParts): Kernel {
  const { plan, http, bus, store } = parts
  return {
    version: parts.version,
    startedAt: parts.startedAt,
    dataDir: parts.dataDir,
    runtime: parts.runtime,
    database: { kind: store.kind, pool: store.pool, listen: store.listen, afterCommit, inTransaction, outsideTransaction },
    plugins: () => plan.order.map((planned) => pluginInfo(planned, parts.instances.get(planned.plugin.id))),
    routes: () => http.table.routes,
    routeGroups: () => http.table.groups,
    eventTypes: () => plan.events,
    scopes: () => plan.scopes,
    stats() {
      const [fromBus, fromHttp] = [bus.stats(), http.stats()]
      const states: Record<string, number> = {}
      for (const { state } of parts.instances.values()) states[`plugins_${state}`] = (states[`plugins_${state}`] ?? 0) + 1
      return {
        gauges: { ...fromBus.gauges, ...fromHttp.gauges, ...store.stats(), ...states },
        counters: { ...fromBus.counters, ...fromHttp.counters, faults: parts.faults() },
      }
    },
    onRequest: (listener) => http.onRequest(listener),
    health: async () => [await databaseHealth(store), pluginsHealth(parts.instances)],
    config: () => ({ values: redactConfig(plan.resolved, plan.sections), schema: configJsonSchema(plan.sections), file: parts.configFile }),
    revoke: (via) => http.revoke(via),
    eventStream: (options) => bus.eventStream(options),
    readEvents: (options) => bus.readEvents(options),
    subscribeAll: (listener) => bus.subscribeAll(listener),
  }
}

function pluginInfo({ plugin, from }: Plan['order'][number], instance: Instance | undefined): PluginInfo {
  const requires = Object.values(plugin.requires ?? {}).map((ref) => ref.id)
  return {
    id: plugin.id,
    version: plugin.version,
    summary: plugin.summary,
    state: instance?.state ?? 'pending',
    reason: instance?.reason,
    from,
    usesKernel: [...requires, ...Object.values(plugin.optional ?? {}).map((ref) => ref.id)].includes('kernel'),
    requires,
    provides: Object.values(plugin.provides ?? {}).map((ref) => ref.id),
    paths: plugin.paths ?? [],
    events: (plugin.events ?? []).map((ref) => ref.type),
    scopes: (plugin.scopes ?? []).map((ref) => ref.id),
  }
}

async function databaseHealth(store: Store): Promise<ComponentHealth> {
  try {
    await store.ping()
    return { name: 'database', state: 'ok', detail: store.kind }
  } catch {
    return { name: 'database', state: 'down', detail: 'does not answer' }
  }
}

function pluginsHealth(instances: ReadonlyMap<string, Instance>): ComponentHealth {
  const broken = [...instances.values()].filter(({ state }) => state === 'failed' || state === 'blocked')
  if (broken.length === 0) return { name: 'plugins', state: 'ok' }
  return { name: 'plugins', state: 'reachable', detail: broken.map(({ id, state }) => `${id} ${state}`).join(', ') }
}
