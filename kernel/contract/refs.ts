/** Refs: values that carry a type across plugins. Two copies of a ref with the same id are the same ref. */
import type { Static, TSchema } from './schema.ts'

/** A scope: something a principal may do. */
export interface ScopeRef {
  readonly kind: 'scope'
  readonly id: string
  readonly summary: string
}

/** Declares a scope. Its owner lists it under `scopes`. */
export function defineScope(id: string, summary: string): ScopeRef {
  return { kind: 'scope', id, summary }
}

/** The kernel's scopes. `admin` implies every scope. */
export const rpc = defineScope('rpc', 'Use the gateway: chat, events, sessions')
export const api = defineScope('api', 'Use the model APIs')
export const admin = defineScope('admin', 'Administer the gateway; implies every scope')

/** An event type with the type of its data. `Durable` decides what `ctx.publish` returns. */
export interface EventRef<Type extends string = string, Data = unknown, Durable extends boolean = boolean> {
  readonly kind: 'event'
  readonly type: Type
  /** TypeBox; `unknown` so that no TypeBox stands in published types. */
  readonly schema: unknown
  readonly scope: ScopeRef
  readonly durable: Durable
  readonly summary: string
  /** Never set: carries the type. */
  readonly '~data'?: Data
}

/** How an event type behaves. */
export interface EventOptions<Durable extends boolean> {
  /** Who may see it. */
  scope: ScopeRef
  /** Kept in the log and replayed; else gone if nobody listens. */
  durable: Durable
  /** One line for the catalogue. */
  summary?: string
}

/** Declares an event type, named `noun:past_tense`. Its owner lists it under `events`. */
export function defineEvent<const Type extends string, S extends TSchema, const Durable extends boolean>(
  type: Type,
  schema: S,
  options: EventOptions<Durable>,
): EventRef<Type, Static<S>, Durable> {
  return { kind: 'event', type, schema, scope: options.scope, durable: options.durable, summary: options.summary ?? type }
}

/** A typed object that one plugin provides and others require. */
export interface ServiceRef<T = unknown> {
  readonly kind: 'service'
  readonly id: string
  /** Never set: carries the type. */
  readonly '~service'?: T
}

/** Declares a service. */
export function defineService<T>(id: string): ServiceRef<T> {
  return { kind: 'service', id }
}

/** A typed list that many plugins add to and its owner reads. */
export interface SlotRef<T = unknown> {
  readonly kind: 'slot'
  readonly id: string
  /** ms in which a promise of an item's function has to settle. */
  readonly deadline: number
  /** Never set: carries the type. */
  readonly '~item'?: T
}

/** Declares a slot. Its owner lists it under `slots`, those who add under `adds`. `deadline` is of each call of an item: default a minute; Infinity where the owner sets one itself. */
export function defineSlot<T>(id: string, { deadline = 60_000 }: { deadline?: number } = {}): SlotRef<T> {
  return { kind: 'slot', id, deadline }
}
