/** The service `kernel`: what docs, settings, health, metrics and events are told of the kernel. */
import { join } from 'node:path'
import type { Bus } from '../bus/bus.ts'
import { type RawConfig, redactConfig } from '../config/index.ts'
import type { OpenDatabase } from '../contract/database.ts'
import { type Kernel, type KernelStats, type PluginInfo, statSources } from '../contract/kernel-service.ts'
import type { Http } from '../http/http.ts'
import type { Faults } from './faults.ts'
import type { Instance } from './instance.ts'
import type { Plan } from './plan.ts'
import type { Plugins } from './plugins.ts'
import type { Slots } from './slots.ts'

/** What runs now: the plan, and the config it was made from. */
export interface Running {
  readonly plan: Plan
  readonly raw: RawConfig
}

/** The kernel's parts, as the service reads them; what it does is handed through. */
export interface KernelParts extends Pick<Kernel, 'version' | 'runtime' | 'startedAt' | 'dataDir' | 'check' | 'reload' | 'endProcess' | 'report' | 'redact'> {
  running(): Running
  readonly plugins: Plugins
  readonly http: Http
  readonly bus: Bus
  readonly database: OpenDatabase
  readonly slots: Slots
  readonly faults: Faults
}

/** Makes the service. */
export function createKernelService({ running, plugins, http, bus, database, slots, faults, ...given }: KernelParts): Kernel {
  return {
    ...given,
    database,
    plugins: () => running().plan.order.map((planned) => pluginInfo(planned, plugins.running.get(planned.plugin.id))),
    routes: () => http.table.routes,
    routeGroups: () => http.table.groups,
    eventTypes: bus.types,
    scopes: () => running().plan.scopes,
    stats() {
      const sources = [bus.stats(), http.stats(), ...(slots.items(statSources.id) as (() => KernelStats)[]).map(statsOf)]
      const states: Record<string, number> = {}
      for (const { state } of plugins.running.values()) states[`plugins_${state}`] = (states[`plugins_${state}`] ?? 0) + 1
      return {
        gauges: Object.assign({}, ...sources.map(({ gauges }) => gauges), states),
        counters: Object.assign({ faults: faults.count() }, ...sources.map(({ counters }) => counters)),
      }
    },
    onRequest: (listener) => http.onRequest(listener),
    config() {
      const { plan, raw } = running()
      return {
        values: redactConfig(plan.resolved),
        sections: plan.sections,
        text: raw.text,
        file: raw.file,
        path: raw.file ?? join(raw.baseDir, 'portico.toml'),
      }
    },
    revoke: (via) => http.revoke(via),
    subscribeAll: bus.subscribeAll,
  }
}

/** What a source throws is reported by its slot; the others' numbers are shown. */
function statsOf(source: () => KernelStats): KernelStats {
  try {
    return source()
  } catch {
    return { gauges: {}, counters: {} }
  }
}

function pluginInfo({ plugin, from, file }: Plan['order'][number], instance: Instance | undefined): PluginInfo {
  const { id, version, summary } = plugin
  return { id, version, summary, state: instance?.state ?? 'pending', reason: instance?.reason, from, file, descriptor: plugin }
}
