/** The plan: which plugins, in which order, with which config. Reads descriptors only; finds ALL problems. */
import { getTableName, isTable } from 'drizzle-orm'
import { sectionAliases } from '../../plugins/builtins.ts'
import { isSwitchedOff, kernelSections, pluginSection, type RawConfig, type ResolvedConfig, resolveConfig } from '../config/index.ts'
import { databaseServer, dataFolder, openDatabase } from '../contract/database.ts'
import { door } from '../contract/door.ts'
import { durableLog } from '../contract/event-log.ts'
import { type ConfigSection, type EventTypeInfo, kernel, statSources } from '../contract/kernel-service.ts'
import { requestLimits, streamLimits } from '../contract/limits.ts'
import type { Plugin } from '../contract/plugin.ts'
import { gatekeeper } from '../contract/principal.ts'
import { nearestName, type Problem } from '../contract/problem.ts'
import { admin, api, type EventRef, rpc, type ScopeRef, type ServiceRef, type SlotRef } from '../contract/refs.ts'
import { kernelEvents } from './kernel-events.ts'
import type { LoadedPlugin } from './load.ts'

/** The plugin API's majors this kernel speaks. */
const supportedApis: readonly number[] = [1]

/** One plugin in its place. */
export interface PlannedPlugin extends LoadedPlugin {
  readonly index: number
  /** Ids of the plugins that provide what it requires. */
  readonly needs: readonly string[]
  /** Ids of the plugins whose services it is given, optional ones too. */
  readonly uses: readonly string[]
  /** Ids of all plugins that are set up before it, if they are loaded: they provide what it uses, or own the slots it adds to. */
  readonly after: readonly string[]
  readonly config: unknown
  readonly onFailure: 'continue' | 'abort'
}

/** The plan. With problems, `order` holds what could be ordered and is not to be started. */
export interface Plan {
  readonly order: readonly PlannedPlugin[]
  readonly resolved: ResolvedConfig
  readonly sections: readonly ConfigSection[]
  readonly events: readonly EventTypeInfo[]
  readonly scopes: readonly { owner: string; ref: ScopeRef }[]
  readonly problems: readonly Problem[]
}

/** Plans the loaded plugins against the config, but for those that it switches off. `known` are ids that exist but need not be loaded. */
export function makePlan(loaded: readonly LoadedPlugin[], raw: RawConfig, known: readonly string[]): Plan {
  const problems: Problem[] = []
  const plugins = distinct(loaded, problems).filter(({ plugin }) => !isSwitchedOff(raw, plugin.id))
  for (const entry of plugins) checkDescriptor(entry, problems)

  const claim = claimer(plugins, problems)
  const events = claim<EventRef>('event', kernelEvents, ({ events = [] }) => events)
  const scopes = claim<ScopeRef>('scope', [rpc, api, admin], ({ scopes = [] }) => scopes)
  const services = claim<ServiceRef>('service', [kernel], ({ provides = {} }) => Object.values(provides))
  const slots = claim<SlotRef>('slot', [requestLimits, streamLimits, statSources] as SlotRef[], ({ slots = [] }) => slots)
  claim<string>('root', [], ({ paths = [] }) => paths)
  const ground = [...foundation, durableLog.id].map((id) => [id, services.get(id)?.owner] as const)
  for (const where of [...foundation, durableLog.id, door.id, gatekeeper.id])
    if (!services.has(where) && where !== databaseServer.id)
      problems.push({ where, what: 'no loaded plugin provides this service, and no gateway runs without it' })
  const log = services.get(durableLog.id)?.owner

  const ownersOf = (where: string, refs: readonly { id: string }[], owned: Owned<unknown>, missing?: string) =>
    refs.flatMap(({ id: key }) => {
      const owner = owned.get(key)?.owner
      if (owner === undefined && missing) problems.push({ where, key, what: missing, nearest: nearestName(key, owned.keys()) })
      return owner === undefined || owner === 'kernel' ? [] : [owner]
    })

  const sections = [...kernelSections, ...plugins.map(({ plugin }) => pluginSection(plugin.id, plugin.config))]
  const resolved = resolveConfig(raw, sections, [...known, ...loaded.map(({ plugin }) => plugin.id)])
  const placed = plugins.map((entry) => {
    const { id, requires = {}, optional = {}, adds = [], onFailure = 'continue' } = entry.plugin
    const needs = ownersOf(id, Object.values(requires), services, 'no loaded plugin provides this service')
    const uses = [...needs, ...ownersOf(id, Object.values(optional), services)]
    const after = [...uses, ...ownersOf(id, adds, slots, 'no loaded plugin owns this slot')]
    return { ...entry, needs, uses, after, config: resolved.sections[id], onFailure: resolved.onFailure[id] ?? onFailure }
  })
  problems.push(...raw.problems, ...resolved.problems, ...plugins.flatMap(({ plugin }) => plugin.check?.(resolved.gateway) ?? []))
  // First the data, then the event log, each behind what it needs itself: everybody after may publish as soon as it is set up.
  const ahead = ground.flatMap(([, id]) => placed.filter(({ plugin }) => plugin.id === id))
  const sorted = inOrder([...ahead, ...placed], problems)
  const late = sorted.findIndex(({ plugin }) => plugin.id === log) + 1
  const first = log === undefined ? [] : [log]
  const order = sorted.map((entry, index) =>
    index < late ? { ...entry, index } : { ...entry, index, needs: [...first, ...entry.needs], after: [...first, ...entry.after] },
  )
  return { order, resolved, sections, events: [...events.values()], scopes: [...scopes.values()], problems }
}

/** The services that all plugins stand on, in the order in which they are set up. */
export const foundation: readonly string[] = [dataFolder.id, databaseServer.id, openDatabase.id]

/** True for a plugin that provides one of these services. */
export function isProvider({ plugin: { provides = {} } }: Pick<LoadedPlugin, 'plugin'>, ...services: readonly string[]): boolean {
  return Object.values(provides).some(({ id }) => services.includes(id))
}

function distinct(loaded: readonly LoadedPlugin[], problems: Problem[]): LoadedPlugin[] {
  const first = new Map<string, LoadedPlugin>()
  for (const entry of loaded) {
    const { id } = entry.plugin
    const twin = first.get(id)
    if (twin) problems.push({ where: id, what: 'two plugins have this id', found: `${twin.from} and ${entry.from}`, expected: 'ids to be unique' })
    else first.set(id, entry)
  }
  return [...first.values()]
}

const knownKeys = new Set(
  'id version api summary config events scopes requires optional provides paths adds slots commands tables migrations check onFailure setupDeadline setup'.split(
    ' ',
  ),
)

function checkDescriptor({ plugin, from }: LoadedPlugin, problems: Problem[]): void {
  const { id: where, api, paths = [], events = [], tables = {} } = plugin
  for (const key of Object.keys(plugin))
    if (!knownKeys.has(key)) problems.push({ where, key, what: 'is no key of a plugin', nearest: nearestName(key, knownKeys) })
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(where)) problems.push({ where, key: 'id', what: 'is not kebab-case', found: JSON.stringify(where) })
  if (where === 'kernel' || kernelSections.some(({ id }) => id === where) || sectionAliases.has(where))
    problems.push({ where, key: 'id', what: 'is a name of the kernel' })
  if (!supportedApis.includes(api))
    problems.push({ where, key: 'api', what: 'this gateway does not know that plugin API', found: String(api), expected: supportedApis.join(' or ') })

  const types = events.map(({ type }) => type)
  const prefix = `${where.replaceAll('-', '_')}_`
  const rules: readonly [names: readonly string[], isGood: (name: string) => boolean, what: string, expected: string][] = [
    [types, (type) => from === 'builtin' || type.startsWith(`${where}:`), "event type does not begin with the plugin's id", `${where}:…`],
    [paths, (path) => path === '/' || /^(\/[^/:*?\s]+)+$/.test(path), 'is no root', '/segment/…, without parameters or a trailing slash'],
    [types, (type) => /^[a-z][a-z0-9-]*:[a-z0-9_]+$/.test(type), 'is no event type', 'noun:past_tense'],
    [tableNames(tables), (name) => name.startsWith(prefix), "table name does not begin with the plugin's id", `${prefix}…`],
  ]
  for (const [names, isGood, what, expected] of rules) for (const key of names) if (!isGood(key)) problems.push({ where, key, what, expected })
}

function tableNames(tables: Readonly<Record<string, unknown>>): string[] {
  return Object.values(tables).flatMap((table) => (isTable(table) ? [getTableName(table)] : []))
}

type Owned<Ref> = ReadonlyMap<string, { readonly owner: string; readonly ref: Ref }>

/** Gives each name one owner, the first that claims it; `kernels` are taken. */
function claimer(plugins: readonly LoadedPlugin[], problems: Problem[]) {
  return <Ref>(what: string, kernels: readonly Ref[], refsOf: (plugin: Plugin) => readonly Ref[]): Owned<Ref> => {
    const nameOf = (ref: Ref) => (typeof ref === 'string' ? ref : ((ref as { type?: string }).type ?? (ref as { id: string }).id))
    const owned = new Map(kernels.map((ref) => [nameOf(ref), { owner: 'kernel', ref }]))
    for (const { plugin } of plugins) {
      for (const ref of refsOf(plugin)) {
        const first = owned.get(nameOf(ref))
        if (first) problems.push({ where: plugin.id, key: nameOf(ref), what: `${what} has an owner already`, found: first.owner })
        else owned.set(nameOf(ref), { owner: plugin.id, ref })
      }
    }
    return owned
  }
}

/** Each after those it has to come after. */
function inOrder<P extends Pick<PlannedPlugin, 'plugin' | 'after'>>(plugins: readonly P[], problems: Problem[]): P[] {
  const byId = new Map(plugins.map((entry) => [entry.plugin.id, entry]))
  const sorted = new Set<P>()
  const visit = (entry: P, path: readonly string[]): void => {
    const { id } = entry.plugin
    if (sorted.has(entry)) return
    if (path.includes(id)) {
      const circle = [...path.slice(path.indexOf(id)), id]
      problems.push({ where: id, what: 'plugins require each other in a circle', found: circle.join(' → ') })
      return
    }
    for (const other of entry.after) {
      const needed = byId.get(other)
      if (needed && needed !== entry) visit(needed, [...path, id])
    }
    sorted.add(entry)
  }
  for (const entry of plugins) visit(entry, [])
  return [...sorted]
}
