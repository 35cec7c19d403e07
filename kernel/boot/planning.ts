/** From options to a plan: reads the config, loads the plugins, and says all that is wrong, without opening a database. */
import { builtins, infrastructure } from '../../plugins/builtins.ts'
import type { RawConfig, ReadConfigOptions } from '../config/index.ts'
import { isSwitchedOff, readConfig } from '../config/index.ts'
import { databaseServer } from '../contract/database.ts'
import type { Clock, Plugin } from '../contract/plugin.ts'
import type { AuthMethod } from '../contract/principal.ts'
import { PlanError, type Problem } from '../contract/problem.ts'
import { type LoadedPlugin, loadPlugins } from './load.ts'
import type { LogFactory, LogOptions, Redaction } from './log.ts'
import { foundation, isProvider, makePlan, type Plan } from './plan.ts'

/** What a plan is made from. */
export interface PlanOptions extends ReadConfigOptions {
  /** Instead of the built-in plugins; the infrastructure they lack, such as a database, is added. */
  plugins?: readonly Plugin[]
  /** Beside them. */
  extraPlugins?: readonly Plugin[]
}

/** How a gateway is started. */
export interface GatewayOptions extends PlanOptions {
  /** Asked before those of the plugins. */
  authMethods?: readonly AuthMethod[]
  /** Learns the secrets of the config. */
  redactor: Redaction
  /** The process is the gateway's own, and this ends it in order: plugins may catch what nobody else in it does. */
  endProcess?(): void
  /** False: no listener; the app is called through `fetch`. */
  listen?: boolean
  clock?: Clock
  /** Makes the loggers, once `log` is configured. */
  log?(options: LogOptions): LogFactory
}

/** A plan, and the config it was made from. */
export interface Planned {
  readonly plan: Plan
  readonly raw: RawConfig
}

/** Plans without opening a database: for `config check` and the JSON Schema. Its problems are in the plan. */
export async function planGateway(options: PlanOptions): Promise<Planned> {
  const raw = readConfig(options)
  return { raw, plan: await planFrom(raw, options) }
}

/** Other than what stands in the config, or than its own effect. */
interface PlanningOptions {
  /** The database is served elsewhere. */
  readonly isElsewhere?: boolean
  /** Told of the foundation's plugins as soon as all are loaded, or of those that there are. */
  onFound?(loaded: readonly LoadedPlugin[]): void
}

/** Loads and plans. */
export async function planFrom(raw: RawConfig, options: PlanOptions, { isElsewhere = hasUrl(raw), onFound }: PlanningOptions = {}): Promise<Plan> {
  const { plugins: instead, extraPlugins = [] } = options
  const given = [...(instead ?? []), ...extraPlugins].map((plugin) => ({ plugin, from: instead ? 'builtin' : 'given' }))
  const isLacking = (id: string) => id in infrastructure && !given.some((each) => isProvider(each, infrastructure[id] ?? ''))
  const isWanted = (id: string) => !isSwitchedOff(raw, id) && (!instead || isLacking(id))
  const isPlanned = (loaded: LoadedPlugin) => !(isElsewhere && isProvider(loaded, databaseServer.id))
  const ground: LoadedPlugin[] = []
  const onLoaded = (loaded: LoadedPlugin) => {
    if (!isSwitchedOff(raw, loaded.plugin.id) && isPlanned(loaded) && isProvider(loaded, ...foundation)) ground.push(loaded)
    if (foundation.every((service) => (isElsewhere && service === databaseServer.id) || ground.some((each) => isProvider(each, service))))
      onFound?.([...ground])
  }
  given.forEach(onLoaded)
  const { plugins, problems } = await loadPlugins({
    builtins: Object.fromEntries(Object.entries(builtins).filter(([id]) => isWanted(id))),
    specifiers: raw.plugins,
    baseDir: raw.baseDir,
    onLoaded,
  })
  onFound?.(ground)
  const all = [...plugins, ...given]
  const planned = all.filter(isPlanned)
  const plan = makePlan(planned, raw, [...Object.keys(builtins), ...all.map(({ plugin }) => plugin.id)])
  const missing = isElsewhere || planned.some((loaded) => isProvider(loaded, databaseServer.id)) ? [] : [noDatabase]
  return { ...plan, problems: [...problems, ...plan.problems, ...missing] }
}

/** True when the config names a database. */
export function hasUrl({ table: { database } }: RawConfig): boolean {
  return Object(database).url !== undefined
}

/** The plan, if nothing is wrong with it. @throws PlanError */
export function assertSound(plan: Plan): Plan {
  if (plan.problems.length > 0) throw new PlanError(plan.problems)
  return plan
}

const noDatabase: Problem = {
  ...{ where: 'database', key: 'url', what: 'there is no database: this is not set, and no loaded plugin serves one' },
  expected: '"postgres://…", or the plugin pglite, which embeds one, to be enabled',
}
