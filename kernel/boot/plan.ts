/** The plan: which plugins, in which order, with which config. Reads descriptors only; finds ALL problems. */
import { getTableName, isTable } from 'drizzle-orm'
import { type ConfigSection, kernelSections, type RawConfig, type ResolvedConfig, resolveConfig, sectionAliases } from '../config/index.ts'
import { eventLog } from '../contract/event-log.ts'
import { kernel, statSources } from '../contract/kernel-service.ts'
import type { Plugin } from '../contract/plugin.ts'
import { authMethods } from '../contract/principal.ts'
import { nearestName, type Problem } from '../contract/problem.ts'
import { admin, api, type EventRef, rpc, type ScopeRef, type ServiceRef, type SlotRef } from '../contract/refs.ts'
import { type TSchema, t } from '../contract/schema.ts'
import { kernelEvents } from './kernel-events.ts'
import type { LoadedPlugin } from './load.ts'

/** The plugin API's majors this kernel speaks. */
export const supportedApis: readonly number[] = [1]

/** One plugin in its place. */
export interface PlannedPlugin extends LoadedPlugin {
  readonly index: number
  /** Ids of the plugins that provide what it requires. */
  readonly needs: readonly string[]
  /** Ids of all plugins that are set up before it. */
  readonly after: readonly string[]
  readonly config: unknown
  readonly onFailure: 'continue' | 'abort'
}

/** The plan. With problems, `order` holds what could be ordered and is not to be started. */
export interface Plan {
  readonly order: readonly PlannedPlugin[]
  readonly resolved: ResolvedConfig
  readonly sections: readonly ConfigSection[]
  readonly events: readonly { owner: string; ref: EventRef }[]
  readonly scopes: readonly { owner: string; ref: ScopeRef }[]
  readonly problems: readonly Problem[]
}

/** Plans the loaded plugins against the config. `known` are ids that exist but may be switched off. */
export function makePlan(loaded: readonly LoadedPlugin[], raw: RawConfig, known: readonly string[]): Plan {
  const problems: Problem[] = []
  const plugins = distinct(loaded, problems)
  for (const { plugin, from } of plugins) checkDescriptor(plugin, from, problems)

  const { claimed: events } = claim<EventRef>(plugins, 'event', kernelEvents, (plugin) => plugin.events ?? [], problems)
  const { claimed: scopes } = claim<ScopeRef>(plugins, 'scope', [rpc, api, admin], (plugin) => plugin.scopes ?? [], problems)
  const { owners: services } = claim<ServiceRef>(plugins, 'service', [kernel], (plugin) => Object.values(plugin.provides ?? {}), problems)
  const { owners: slots } = claim<SlotRef>(plugins, 'slot', [authMethods as SlotRef, statSources as SlotRef], (plugin) => plugin.slots ?? [], problems)
  claim<string>(plugins, 'root', [], (plugin) => plugin.paths ?? [], problems)
  checkReferences(plugins, services, slots, problems)
  const log = services.get(eventLog.id)
  if (log === undefined) problems.push({ where: eventLog.id, what: 'no loaded plugin provides this service, and no gateway runs without it' })

  const sections = [...kernelSections, ...plugins.map(({ plugin }): ConfigSection => ({ id: plugin.id, schema: (plugin.config ?? t.Object({})) as TSchema }))]
  const resolved = resolveConfig(raw, sections, known)
  problems.push(...raw.problems, ...resolved.problems)

  // The event log comes first, behind what it needs itself: everybody after it may publish as soon as it is set up.
  const order = sortPlugins([...plugins.filter(({ plugin }) => plugin.id === log), ...plugins], services, slots, problems)
  const late = order.findIndex(({ plugin }) => plugin.id === log) + 1
  return {
    order: order.map((entry, index) => ({
      ...entry,
      index,
      needs: [...(log !== undefined && index >= late ? [log] : []), ...serviceNeeds(entry.plugin, services)],
      after: order.slice(0, index).flatMap(({ plugin }) => (plugin.id === log || before(entry, services, slots).includes(plugin.id) ? [plugin.id] : [])),
      config: resolved.sections[entry.plugin.id],
      onFailure: resolved.onFailure[entry.plugin.id] ?? entry.plugin.onFailure ?? 'continue',
    })),
    resolved,
    sections,
    events,
    scopes,
    problems,
  }
}

function distinct(loaded: readonly LoadedPlugin[], problems: Problem[]): LoadedPlugin[] {
  const byId = new Map<string, LoadedPlugin>()
  for (const entry of loaded) {
    const twin = byId.get(entry.plugin.id)
    if (twin) problems.push({ where: entry.plugin.id, what: 'two plugins have this id', found: `${twin.from} and ${entry.from}`, expected: 'ids to be unique' })
    else byId.set(entry.plugin.id, entry)
  }
  return [...byId.values()]
}

const knownKeys = new Set(
  'id version api summary config events scopes requires optional provides paths adds slots commands tables migrations onFailure setupDeadline setup'.split(' '),
)

function checkDescriptor(plugin: Plugin, from: string, problems: Problem[]): void {
  const where = plugin.id
  for (const key of Object.keys(plugin)) {
    if (!knownKeys.has(key)) problems.push({ where, key, what: 'is no key of a plugin', nearest: nearestName(key, knownKeys) })
  }
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(plugin.id)) problems.push({ where, key: 'id', what: 'is not kebab-case', found: JSON.stringify(plugin.id) })
  if (plugin.id === 'kernel' || kernelSections.some((section) => section.id === plugin.id) || sectionAliases.has(plugin.id))
    problems.push({ where, key: 'id', what: 'is a name of the kernel' })
  if (!supportedApis.includes(plugin.api)) {
    problems.push({ where, key: 'api', what: 'this gateway does not know that plugin API', found: String(plugin.api), expected: supportedApis.join(' or ') })
  }
  if (from !== 'builtin') {
    for (const { type } of plugin.events ?? []) {
      if (!type.startsWith(`${plugin.id}:`))
        problems.push({ where, key: type, what: "event type does not begin with the plugin's id", expected: `${plugin.id}:…` })
    }
  }
  for (const path of plugin.paths ?? []) {
    if (!/^(\/[^/:*?\s]+)+$/.test(path)) problems.push({ where, key: path, what: 'is no root', expected: '/segment/…, without parameters or a trailing slash' })
  }
  for (const { type } of plugin.events ?? []) {
    if (!/^[a-z][a-z0-9-]*:[a-z0-9_]+$/.test(type)) problems.push({ where, key: type, what: 'is no event type', expected: 'noun:past_tense' })
  }
  const prefix = `${plugin.id.replaceAll('-', '_')}_`
  for (const table of Object.values(plugin.tables ?? {})) {
    if (isTable(table) && !getTableName(table).startsWith(prefix)) {
      problems.push({ where, key: getTableName(table), what: "table name does not begin with the plugin's id", expected: `${prefix}…` })
    }
  }
}

/** Gives each name one owner, the first that claims it; `kernels` are taken. */
function claim<Ref>(plugins: readonly LoadedPlugin[], what: string, kernels: readonly Ref[], refsOf: (plugin: Plugin) => readonly Ref[], problems: Problem[]) {
  const nameOf = (ref: Ref) => (typeof ref === 'string' ? ref : ((ref as { type?: string }).type ?? (ref as { id: string }).id))
  const claimed = kernels.map((ref) => ({ owner: 'kernel', ref }))
  const owners = new Map(kernels.map((ref) => [nameOf(ref), 'kernel']))
  for (const { plugin } of plugins) {
    for (const ref of refsOf(plugin)) {
      const first = owners.get(nameOf(ref))
      if (first !== undefined) {
        problems.push({ where: plugin.id, key: nameOf(ref), what: `${what} has an owner already`, found: first })
        continue
      }
      owners.set(nameOf(ref), plugin.id)
      claimed.push({ owner: plugin.id, ref })
    }
  }
  return { claimed, owners }
}

function checkReferences(
  plugins: readonly LoadedPlugin[],
  services: ReadonlyMap<string, string>,
  slots: ReadonlyMap<string, string>,
  problems: Problem[],
): void {
  for (const { plugin } of plugins) {
    for (const ref of Object.values(plugin.requires ?? {})) {
      if (!services.has(ref.id)) {
        problems.push({ where: plugin.id, key: ref.id, what: 'no loaded plugin provides this service', nearest: nearestName(ref.id, services.keys()) })
      }
    }
    for (const ref of plugin.adds ?? []) {
      if (!slots.has(ref.id))
        problems.push({ where: plugin.id, key: ref.id, what: 'no loaded plugin owns this slot', nearest: nearestName(ref.id, slots.keys()) })
    }
  }
}

function serviceNeeds(plugin: Plugin, services: ReadonlyMap<string, string>): string[] {
  return Object.values(plugin.requires ?? {})
    .map((ref) => services.get(ref.id))
    .filter((id) => id !== undefined && id !== 'kernel') as string[]
}

/** The ids of the services it provides. */
export function providedBy(plugin: Plugin): string[] {
  return Object.values(plugin.provides ?? {}).map(({ id }) => id)
}

/** The plugins whose services and slots it uses. */
function before({ plugin }: LoadedPlugin, services: ReadonlyMap<string, string>, slots: ReadonlyMap<string, string>): string[] {
  const optional = Object.values(plugin.optional ?? {}).map((ref) => services.get(ref.id) ?? '')
  return [...serviceNeeds(plugin, services), ...optional, ...(plugin.adds ?? []).map((ref) => slots.get(ref.id) ?? '')]
}

function sortPlugins(
  plugins: readonly LoadedPlugin[],
  services: ReadonlyMap<string, string>,
  slots: ReadonlyMap<string, string>,
  problems: Problem[],
): LoadedPlugin[] {
  const byId = new Map(plugins.map((entry) => [entry.plugin.id, entry]))
  const sorted: LoadedPlugin[] = []
  const state = new Map<string, 'visiting' | 'done'>()
  const visit = (entry: LoadedPlugin, path: readonly string[]): void => {
    const { id } = entry.plugin
    if (state.get(id) === 'done') return
    if (state.get(id) === 'visiting') {
      const circle = [...path.slice(path.indexOf(id)), id]
      problems.push({ where: id, what: 'plugins require each other in a circle', found: circle.join(' → ') })
      return
    }
    state.set(id, 'visiting')
    for (const other of before(entry, services, slots)) {
      const needed = byId.get(other)
      if (needed && other !== id) visit(needed, [...path, id])
    }
    state.set(id, 'done')
    sorted.push(entry)
  }
  for (const entry of plugins) visit(entry, [])
  return sorted
}
