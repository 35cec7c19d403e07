/** The event types there are, who owns each, and who listens. */
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import type { EventTypeInfo } from '../contract/kernel-service.ts'
import { nearestName } from '../contract/problem.ts'
import type { EventRef } from '../contract/refs.ts'
import { compileCheck } from '../contract/schema.ts'

/** A listener with the plugin that is told of its faults. */
// biome-ignore lint/suspicious/noExplicitAny: the ref that was listened to has typed it
export interface OwnedListener<Event = GatewayEvent<string, any>> {
  readonly owner: string
  readonly call: (event: Event) => unknown
}

/** What is known of a type. Listeners may come before and outlive its owner. */
export interface Topic {
  readonly type: string
  owner?: string
  ref?: EventRef
  check?: ReturnType<typeof compileCheck>
  /** Replaced, never changed: a delivery under way keeps its list. */
  listeners: readonly OwnedListener[]
}

/** An empty catalogue. Schemas are compiled at their first event: a tenth of a millisecond each. */
export function createCatalogue() {
  const topics = new Map<string, Topic>()
  let types: readonly EventTypeInfo[] = []
  const topic = (type: string): Topic => {
    const known = topics.get(type)
    if (known) return known
    const made: Topic = { type, listeners: [] }
    topics.set(type, made)
    return made
  }

  return {
    /** The topic of a type, registered or not. */
    topic,
    /** What was registered last: the same list until the next time. */
    types: (): readonly EventTypeInfo[] => types,
    /** Adds a listener of the type; returns the undo. */
    listen(type: string, own: OwnedListener) {
      const entry = topic(type)
      entry.listeners = [...entry.listeners, own]
      return () => {
        const now = topic(type)
        now.listeners = now.listeners.filter((other) => other !== own)
      }
    },
    /** Replaces the types. Listeners stay. */
    register(owned: readonly EventTypeInfo[]): void {
      types = owned
      const before = new Set(topics.values())
      for (const { owner, ref } of owned) {
        const entry = topic(ref.type)
        before.delete(entry)
        if (entry.ref !== ref) entry.check = undefined
        entry.owner = owner
        entry.ref = ref
      }
      for (const entry of before) {
        if (entry.listeners.length === 0) topics.delete(entry.type)
        else entry.owner = entry.ref = entry.check = undefined
      }
    },
    /** The topic, once `source` owns the type and `data` is of its schema. @throws GatewayError `plugin_failed` */
    checked(source: string, type: string, data: unknown) {
      const entry = topics.get(type)
      if (entry?.ref === undefined || entry.owner !== source) throw notOwned(source, type, entry?.owner, types)
      entry.check ??= compileCheck(entry.ref.schema)
      const wrong = entry.check(data)
      if (wrong) throw invalid(source, type, wrong)
      return entry as Topic & { readonly ref: EventRef }
    },
  }
}

function notOwned(plugin: string, type: string, owner: string | undefined, types: readonly EventTypeInfo[]): GatewayError {
  const known = types.map(({ ref }) => ref.type)
  const near = owner === undefined ? nearestName(type, known) : undefined
  const why = owner === undefined ? `no plugin declares it${near ? ` (did you mean "${near}"?)` : ''}` : `it belongs to ${owner}`
  return misuse(plugin, type, `cannot be published: ${why}. Declare it under events of the plugin that publishes it`)
}

/** An error that names the plugin which used an event wrongly. `what` says how, and what to do. */
export function misuse(plugin: string, type: string, what: string): GatewayError {
  return new GatewayError('plugin_failed', `The event "${type}" ${what}.`, { plugin })
}

function invalid(plugin: string, type: string, { path, message }: { path: string; message: string }): GatewayError {
  return new GatewayError('plugin_failed', `The data of "${type}" does not fit its schema at ${path}: ${message}. Publish what the schema says.`, { plugin })
}
