/** Setting plugins up in dependency order, making them ready, and the events and states that go with it. */
import type { Bus } from '../bus/bus.ts'
import { GatewayError } from '../contract/errors.ts'
import { type EventLog, eventLog } from '../contract/event-log.ts'
import type { PluginState } from '../contract/kernel-service.ts'
import { requestLimits } from '../contract/limits.ts'
import { authMethods } from '../contract/principal.ts'
import { PlanError, type Problem } from '../contract/problem.ts'
import { assembleTable, type TableEntry } from '../http/table.ts'
import type { Store } from '../store/open.ts'
import { Instance, type InstanceHost } from './instance.ts'
import { pluginBlocked, pluginFailed, pluginReady, pluginStopped } from './kernel-events.ts'
import { type Plan, providedBy } from './plan.ts'

/** Sets up all plugins, each after those it needs. Failed ones are unwound and their dependents blocked; breaches of the contract are thrown together as a `PlanError`. */
export async function setupPlugins(plan: Plan, store: Store, host: InstanceHost, instances: Map<string, Instance>): Promise<void> {
  const problems: Problem[] = []
  const running = new Map<string, Promise<void>>()
  for (const planned of plan.order) {
    const { plugin } = planned
    // The one that serves the database is set up already.
    const instance = instances.get(plugin.id) ?? new Instance(planned, host)
    instances.set(plugin.id, instance)
    running.set(
      plugin.id,
      Promise.all(planned.after.map((id) => running.get(id))).then(async () => {
        const missing = planned.needs.find((id) => instances.get(id)?.state !== 'pending' || problems.some((problem) => problem.where === id))
        if (missing !== undefined) return block(instance, missing)
        try {
          if (plugin.migrations) await store.migrate(plugin.id, plugin.migrations)
          problems.push(...(await instance.setup()))
          const log = instance.services().get(eventLog.id)
          if (log) await host.bus.open(log as EventLog)
        } catch (error) {
          await fail(instance, 'setup', error, host)
        }
      }),
    )
  }
  await Promise.all(running.values())
  problems.push(...assembleTable([...instances.values()].map(tableEntry)).problems)
  if (problems.length > 0) throw new PlanError(problems)
  refuseIfFatal(instances.values())
}

/** Runs every `ready` at once; one that throws fails its plugin. */
export async function readyPlugins(instances: ReadonlyMap<string, Instance>, host: InstanceHost): Promise<void> {
  await Promise.all(
    [...instances.values()].map(async (instance) => {
      if (instance.state !== 'pending') return
      try {
        await instance.ready()
      } catch (error) {
        await fail(instance, 'ready', error, host)
      }
    }),
  )
  for (const instance of instances.values()) {
    const missing = instance.state === 'ready' ? instance.planned.needs.find((id) => instances.get(id)?.state !== 'ready') : undefined
    if (missing !== undefined) {
      await instance.unwind('failed', undefined)
      block(instance, missing)
    }
  }
  refuseIfFatal(instances.values())
}

/** The table's entry for a plugin as it stands. */
export function tableEntry(instance: Instance): TableEntry {
  const { state, compiled } = instance
  if ((state === 'ready' || state === 'pending') && compiled) return { state: 'ready', compiled }
  return {
    state: state === 'blocked' || state === 'stopped' ? state : 'failed',
    plugin: instance.id,
    paths: instance.planned.plugin.paths ?? [],
    reason: instance.reason ?? 'it is not running',
  }
}

const stateEvents = { ready: pluginReady, failed: pluginFailed, blocked: pluginBlocked, stopped: pluginStopped } as const

/** Publishes the state of each plugin as an event. */
export async function publishStates(instances: Iterable<Instance>, bus: Bus): Promise<void> {
  await Promise.all([...instances].map((instance) => publishState(instance, bus)))
}

async function publishState({ id, state, reason, planned }: Instance, bus: Bus): Promise<void> {
  const event = stateEvents[state as Exclude<PluginState, 'pending'>]
  if (!event) return
  const data = { plugin: id, version: planned.plugin.version }
  await bus.publish('kernel', event, state === 'failed' || state === 'blocked' ? { ...data, reason: reason ?? 'unknown' } : data)
}

function block(instance: Instance, missing: string): void {
  instance.state = 'blocked'
  instance.reason = `it requires the plugin "${missing}", which is not running`
}

async function fail(instance: Instance, what: string, error: unknown, host: InstanceHost): Promise<void> {
  host.onError(instance.id, what, error)
  await instance.unwind('failed', host.redact(`${what}: ${error instanceof Error ? error.message : String(error)}`))
}

/** What must not be missing while its plugin is on: who may come in, and how often. */
const closed: readonly string[] = [authMethods.id, requestLimits.id]

/** A gateway without its event log, without an auth method or a limit it was to have, or without a plugin that says `abort`, must not serve. */
function refuseIfFatal(instances: Iterable<Instance>): void {
  const fatal = [...instances].filter(
    ({ state, planned: { plugin, onFailure } }) =>
      (state === 'failed' || state === 'blocked') &&
      (onFailure === 'abort' || providedBy(plugin).includes(eventLog.id) || (plugin.adds ?? []).some(({ id }) => closed.includes(id))),
  )
  if (fatal.length === 0) return
  throw new GatewayError(
    'plugin_failed',
    `The gateway does not start without ${fatal.map(({ id, reason }) => `the plugin "${id}" (${reason})`).join(' and ')}; mend it, or switch it off with enabled = false.`,
  )
}
