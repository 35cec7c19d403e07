/** The plugins that run: set up in dependency order, changed beside each other, stopped; and the events and states that go with it. */
import { isDeepStrictEqual } from 'node:util'
import { GatewayError } from '../contract/errors.ts'
import { type DurableLog, durableLog } from '../contract/event-log.ts'
import type { ReloadReport } from '../contract/kernel-service.ts'
import { requestLimits } from '../contract/limits.ts'
import { authMethods } from '../contract/principal.ts'
import { PlanError, type Problem } from '../contract/problem.ts'
import type { ServiceRef } from '../contract/refs.ts'
import type { CompiledGroup } from '../http/compile.ts'
import { assembleTable, type RouteTable, type TableEntry } from '../http/table.ts'
import { Instance, type InstanceHost } from './instance.ts'
import { pluginEvents } from './kernel-events.ts'
import { foundation, isProvider, type Plan, type PlannedPlugin } from './plan.ts'

/** What the plugins run on. */
export interface PluginsHost extends InstanceHost {
  /** A service that is no plugin's, for a plugin. */
  kernelService(plugin: string, id: string): unknown
  setTable(table: RouteTable): void
  /** Lets what these groups have begun end, event streams at once. */
  drain(groups: ReadonlySet<CompiledGroup>): Promise<void>
}

type Instances = ReadonlyMap<string, Instance>

/** All of them. */
export class Plugins {
  readonly #host: PluginsHost
  readonly #retiring = new Set<Promise<void>>()
  #running: Instances = new Map()
  #telling: Promise<void> | undefined

  constructor(host: PluginsHost) {
    this.#host = host
  }

  /** By id, in the plan's order. */
  get running(): Instances {
    return this.#running
  }

  /** What one of them provides. */
  service<T>({ id }: ServiceRef<T>): T | undefined {
    return serviceOf(this.#running, id) as T | undefined
  }

  /** Sets up what all others stand on, one after the other. @throws what their set-up throws; PlanError with the breaches of one */
  async lay(plan: Plan): Promise<void> {
    const laid = new Map<string, Instance>()
    this.#running = laid
    for (const planned of plan.order) {
      const instance = new Instance(planned, this.#host)
      laid.set(instance.id, instance)
      const breaches = await instance.setup(this.#serviceFor(instance, laid))
      if (breaches.length > 0) throw new PlanError(breaches)
    }
  }

  /** Sets up all of them but those that are already. Failed ones are unwound, their dependents blocked. @throws PlanError with the breaches of all; GatewayError when one failed that must not */
  async start(plan: Plan): Promise<void> {
    const all = plan.order.map((planned) => {
      const laid = this.#running.get(planned.plugin.id)
      if (laid) laid.planned = planned
      return laid ?? new Instance(planned, this.#host)
    })
    this.#running = new Map(all.map((instance) => [instance.id, instance]))
    this.#host.bus.register(plan.events)
    const table = await this.#setUp(all, this.#running)
    refuseIfFatal(all)
    this.#host.setTable(table)
    await this.#makeReady(all)
    refuseIfFatal(all)
    this.#telling = this.#tell(all).catch((error: unknown) => this.#host.onError('kernel', 'telling that the plugins are ready', error))
  }

  /**
   * Takes another plan: what did not change goes on, what takes a changed config is handed it, the rest is set up beside what runs, and takes its place at
   * once and together; what it replaces finishes what it has begun. What holds the data or keeps the events is never replaced.
   * @throws PlanError, GatewayError `plugin_failed`: then nothing has changed
   */
  async change(plan: Plan, restart: ReadonlySet<string>): Promise<Omit<ReloadReport, 'keys'>> {
    const before = this.#running
    const next = new Map<string, Instance>()
    const fresh: Instance[] = []
    const reconfigured: [Instance, PlannedPlugin][] = []
    const needsRestart: string[] = []
    for (const planned of plan.order) {
      const { id } = planned.plugin
      const old = before.get(id)
      const isSame =
        old?.isUp && old.planned.plugin === planned.plugin && !restart.has(id) && planned.uses.every((other) => next.get(other) === before.get(other))
      const isConfigured = isDeepStrictEqual(old?.planned.config, planned.config)
      if (old && isSame && (isConfigured || old.isReconfigurable)) {
        next.set(id, old)
        if (!isConfigured) reconfigured.push([old, planned])
      } else if (old?.isUp && isFoundation(planned)) {
        next.set(id, old)
        needsRestart.push(id)
      } else {
        const instance = new Instance(planned, this.#host, { beside: true })
        next.set(id, instance)
        fresh.push(instance)
      }
    }
    const table = await this.#prepare(fresh, next, reconfigured)
    const gone = [...before.values()].filter((instance) => next.get(instance.id) !== instance)
    for (const instance of gone) instance.withdraw()
    this.#host.bus.register(plan.events)
    for (const instance of fresh) if (instance.isUp) instance.activate()
    this.#running = next
    this.#host.setTable(table)
    await this.#makeReady(fresh)
    this.#retire(gone)
    await this.#tell(fresh)
    const idsOf = (instances: readonly Instance[]) => instances.map(({ id }) => id)
    return {
      started: idsOf(fresh.filter(({ id }) => !before.has(id))),
      restarted: idsOf(fresh.filter(({ id }) => before.has(id))),
      reconfigured: idsOf(reconfigured.map(([instance]) => instance)),
      stopped: idsOf(gone.filter(({ id }) => !next.has(id))),
      needsRestart,
    }
  }

  /** Stops all but those that hold the data: the others' end is written there. */
  async stop(): Promise<void> {
    await Promise.all([this.#telling, ...this.#retiring])
    await this.#tell(await this.#unwind(({ state, planned }) => (state === 'ready' || state === 'pending') && !isProvider(planned, ...foundation)))
  }

  /** Ends those that hold the data. */
  async end(): Promise<void> {
    await this.#unwind(({ planned }) => isProvider(planned, ...foundation))
  }

  async #unwind(isMeant: (instance: Instance) => boolean): Promise<readonly Instance[]> {
    const meant = [...this.#running.values()].reverse().filter(isMeant)
    for (const instance of meant) await instance.unwind('stopped')
    return meant
  }

  /** Sets up what is new for a change, and gives the table with it. When that fails, or the routes do not fit together, all of it is undone. */
  async #prepare(fresh: readonly Instance[], next: Instances, reconfigured: readonly [Instance, PlannedPlugin][]): Promise<RouteTable> {
    const done: [Instance, PlannedPlugin][] = []
    try {
      const table = await this.#setUp(fresh, next)
      // One that did not run before, and for the same reason does not now, holds up nobody.
      const worse = fresh.filter((instance) => !instance.isUp && (this.#running.get(instance.id)?.isUp ?? true))
      if (worse.length > 0) throw new GatewayError('plugin_failed', `The change was not taken: ${reasons(worse)}. What ran before goes on.`)
      for (const [instance, planned] of reconfigured) {
        done.push([instance, instance.planned])
        await instance.reconfigure(planned).catch((cause: unknown) => {
          throw new GatewayError('plugin_failed', `The change was not taken: reconfigure of the plugin "${instance.id}" failed (${this.#said(cause)}).`, {
            cause,
          })
        })
      }
      return table
    } catch (error) {
      for (const [instance, planned] of done)
        await instance.reconfigure(planned).catch((fault: unknown) => this.#host.onError(instance.id, 'going back to the config before', fault))
      for (const instance of [...fresh].reverse()) await instance.unwind('stopped')
      throw error
    }
  }

  /** Sets these up, each after those it needs, and starts the log. Gives the table with them. @throws PlanError with the breaches of all, and the routes that do not fit together */
  async #setUp(fresh: readonly Instance[], all: Instances): Promise<RouteTable> {
    const problems: Problem[] = []
    const running = new Map<string, Promise<void>>()
    let opening: Promise<void> | undefined
    for (const instance of fresh) {
      const { plugin, needs, after } = instance.planned
      const setUp = async () => {
        const missing = needs.find((id) => !all.get(id)?.isUp || problems.some((problem) => problem.where === id))
        if (missing !== undefined) return block(instance, missing)
        try {
          if (plugin.migrations) await this.#host.database(plugin.id, 'tables').migrate(plugin.id, plugin.migrations)
          problems.push(...(await instance.setup(this.#serviceFor(instance, all))))
          const log = instance.services().get(durableLog.id)
          // Beside the other set-ups: what they publish waits in its outbox.
          if (log) opening = this.#host.bus.open(log as DurableLog).catch((error: unknown) => this.#fail(instance, 'setup', error))
        } catch (error) {
          await this.#fail(instance, 'setup', error)
        }
      }
      running.set(plugin.id, Promise.all(after.map((id) => running.get(id))).then(setUp))
    }
    await Promise.all(running.values())
    await opening
    const { table, problems: conflicts } = assemble(all)
    if (problems.length + conflicts.length > 0) throw new PlanError([...problems, ...conflicts])
    return table
  }

  /** Finds what it requires. */
  #serviceFor({ id: plugin }: Instance, all: Instances): (id: string) => unknown {
    return (id) => this.#host.kernelService(plugin, id) ?? serviceOf(all, id)
  }

  /** Runs every `ready` at once; one that throws fails its plugin, and blocks those that need it. */
  async #makeReady(fresh: readonly Instance[]): Promise<void> {
    await Promise.all(fresh.filter(({ isUp }) => isUp).map((instance) => instance.ready().catch((error) => this.#fail(instance, 'ready', error))))
    const all = this.#running
    for (const instance of all.values()) {
      const missing = instance.state === 'ready' ? instance.planned.needs.find((id) => all.get(id)?.state !== 'ready') : undefined
      if (missing === undefined) continue
      await instance.unwind('failed')
      block(instance, missing)
    }
    if (fresh.some(({ state }) => state !== 'ready')) this.#host.setTable(assemble(all).table)
  }

  /** Ends those that were replaced, once what they have begun is over; the change does not wait for it. */
  #retire(gone: readonly Instance[]): void {
    const groups = new Set(gone.flatMap(({ compiled }) => compiled?.groups ?? []))
    const retiring = this.#host.drain(groups).then(async () => {
      const ended = [...gone].reverse().filter(({ isUp }) => isUp)
      for (const instance of ended) await instance.unwind('stopped')
      await this.#tell(ended)
    })
    this.#retiring.add(retiring)
    void retiring.catch((error: unknown) => this.#host.onError('kernel', 'stopping replaced plugins', error)).finally(() => this.#retiring.delete(retiring))
  }

  async #fail(instance: Instance, what: string, error: unknown): Promise<void> {
    this.#host.onError(instance.id, what, error)
    await instance.unwind('failed', `${what}: ${this.#said(error)}`)
  }

  #said(error: unknown): string {
    return this.#host.redact(error instanceof Error ? error.message : String(error))
  }

  /** Publishes the states. */
  async #tell(instances: readonly Instance[]): Promise<void> {
    const tell = async ({ id, state, reason = 'unknown', planned: { plugin } }: Instance) => {
      if (state === 'pending') return
      const data = { plugin: id, version: plugin.version }
      await this.#host.bus.publish('kernel', pluginEvents[state], state === 'failed' || state === 'blocked' ? { ...data, reason } : data)
    }
    await Promise.all(instances.map(tell))
  }
}

function assemble(instances: Instances): { table: RouteTable; problems: Problem[] } {
  return assembleTable([...instances.values()].map(tableEntry))
}

function serviceOf(instances: Instances, id: string): unknown {
  return [...instances.values()].map((each) => (each.isUp ? each.services().get(id) : undefined)).find((found) => found !== undefined)
}

/** The table's entry for a plugin as it stands. */
function tableEntry({ id, isUp, state, reason = 'it is not running', compiled, planned }: Instance): TableEntry {
  if (isUp && compiled) return { state: 'ready', compiled }
  return { state: state === 'blocked' || state === 'stopped' ? state : 'failed', plugin: id, paths: planned.plugin.paths ?? [], reason }
}

function block(instance: Instance, missing: string): void {
  instance.state = 'blocked'
  instance.reason = `it requires the plugin "${missing}", which is not running`
}

/** What everything stands on cannot be exchanged while it runs. */
function isFoundation(planned: PlannedPlugin): boolean {
  return isProvider(planned, ...foundation, durableLog.id)
}

function reasons(instances: readonly Instance[]): string {
  return instances.map(({ id, reason }) => `the plugin "${id}" (${reason})`).join(' and ')
}

/** What must not be missing while its plugin is on: who may come in, and how often. */
const closed: readonly string[] = [authMethods.id, requestLimits.id]

/** A gateway without its event log, without an auth method or a limit it was to have, or without a plugin that says `abort`, must not serve. */
function refuseIfFatal(instances: readonly Instance[]): void {
  const fatal = instances.filter(
    ({ isUp, planned }) =>
      !isUp && (planned.onFailure === 'abort' || isProvider(planned, durableLog.id) || (planned.plugin.adds ?? []).some(({ id }) => closed.includes(id))),
  )
  if (fatal.length === 0) return
  throw new GatewayError('plugin_failed', `The gateway does not start without ${reasons(fatal)}; mend it, or switch it off with enabled = false.`)
}
