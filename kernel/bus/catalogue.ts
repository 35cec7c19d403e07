/** The event types there are, who owns each, and who may see it. */
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler'
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import { hasScope, type Principal } from '../contract/principal.ts'
import { nearestName } from '../contract/problem.ts'
import { admin, type EventRef } from '../contract/refs.ts'
import type { TSchema } from '../contract/schema.ts'

/** An event type and its owner. */
export interface OwnedEvent {
  readonly owner: string
  readonly ref: EventRef
}

/** A listener with the plugin that is told of its faults. */
export interface OwnedListener {
  readonly owner: string
  // biome-ignore lint/suspicious/noExplicitAny: the ref that was listened to has typed it
  readonly call: (event: GatewayEvent<string, any>) => unknown
}

/** What is known of a type. Listeners may come before and outlive its owner. */
export interface Topic {
  readonly type: string
  owner?: string
  ref?: EventRef
  check?: TypeCheck<TSchema>
  /** Replaced, never changed: a delivery under way keeps its list. */
  listeners: readonly OwnedListener[]
}

/** All types. */
export type Catalogue = ReturnType<typeof createCatalogue>

/** An empty catalogue. Schemas are compiled at their first event: a tenth of a millisecond each. */
export function createCatalogue() {
  const topics = new Map<string, Topic>()
  let version = 0
  const topic = (type: string): Topic => {
    const known = topics.get(type)
    if (known) return known
    const made: Topic = { type, listeners: [] }
    topics.set(type, made)
    return made
  }
  const types = () => [...topics.values()].filter(({ ref }) => ref !== undefined).map(({ type }) => type)

  return {
    /** Rises with each `register`. */
    get version() {
      return version
    },
    /** The topic of a type, registered or not. */
    topic,
    /** The registered types. */
    types,
    /** Replaces the types. */
    register(owned: readonly OwnedEvent[]) {
      version++
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
      if (entry?.ref === undefined || entry.owner !== source) throw notOwned(source, type, entry?.owner, types())
      entry.check ??= TypeCompiler.Compile(entry.ref.schema as TSchema)
      if (!entry.check.Check(data)) throw invalid(source, type, entry.check, data)
      return entry as Topic & { readonly ref: EventRef }
    },
    /** True if the principal may see events of this type. Types that nobody owns now are for admins. */
    allows: (principal: Principal, type: string) => hasScope(principal, topics.get(type)?.ref?.scope.id ?? admin.id),
  }
}

function notOwned(plugin: string, type: string, owner: string | undefined, known: readonly string[]): GatewayError {
  const near = owner === undefined ? nearestName(type, known) : undefined
  const why = owner === undefined ? `no plugin declares it${near ? ` (did you mean "${near}"?)` : ''}` : `it belongs to ${owner}`
  return new GatewayError('plugin_failed', `The event "${type}" cannot be published: ${why}. Declare it under events of the plugin that publishes it.`, {
    plugin,
  })
}

function invalid(plugin: string, type: string, check: TypeCheck<TSchema>, data: unknown): GatewayError {
  const first = check.Errors(data).First()
  const where = first ? ` at ${first.path || '/'}: ${first.message}` : ''
  return new GatewayError('plugin_failed', `The data of "${type}" does not fit its schema${where}. Publish what the schema says.`, { plugin })
}

/** The test of patterns like `message:*`, `key:created` and `*`; none = every type. @throws GatewayError `validation_failed` */
export function toTypeTest(patterns: readonly string[] | undefined): ((type: string) => boolean) | null {
  if (!patterns || patterns.length === 0 || patterns.includes('*')) return null
  const wrong = patterns.find((pattern) => pattern.length > 200 || !/^[^*\s]+\*?$/.test(pattern))
  if (wrong !== undefined || patterns.length > 100)
    throw new GatewayError('validation_failed', 'A type pattern is a type, a beginning of one with * at its end, or *; at most 100 of them. Correct types.', {
      param: 'types',
    })
  const exact = new Set(patterns.filter((pattern) => !pattern.endsWith('*')))
  const prefixes = patterns.filter((pattern) => pattern.endsWith('*')).map((pattern) => pattern.slice(0, -1))
  return (type) => exact.has(type) || prefixes.some((prefix) => type.startsWith(prefix))
}
