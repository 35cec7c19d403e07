/** `definePlugin`: what a plugin says of itself, and what it is given. */
import type { NodePgDatabase, NodePgQueryResultHKT } from 'drizzle-orm/node-postgres'
import type { PgTransaction } from 'drizzle-orm/pg-core'
import type { CommandRef } from '../cli/command.ts'
import type { RouteGroup } from './access.ts'
import type { GatewayEvent } from './event.ts'
import type { ProxySettings, TlsFiles } from './listener.ts'
import type { Problem } from './problem.ts'
import type { EventRef, ScopeRef, ServiceRef, SlotRef } from './refs.ts'
import type { Static, TObject, TSchema } from './schema.ts'
import type { SocketRoute } from './socket.ts'

/** drizzle over PostgreSQL or PGlite. Inside `transaction(tx => …)` only `tx` may be used: the outer `db` throws there at once. */
export type Database = NodePgDatabase
/** A transaction of `Database`. */
// biome-ignore lint/suspicious/noExplicitAny: drizzle's own parameters for "no relational schema"
export type Transaction = PgTransaction<NodePgQueryResultHKT, any, any>

/** Time, so that tests need no patching. */
export interface Clock {
  /** ms since the epoch. */
  now(): number
  /** Resolves after `ms`; rejects when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** Structured log of one plugin. Secrets are redacted at the sink. */
export type Logger = Readonly<Record<'debug' | 'info' | 'warn' | 'error', (message: string, properties?: Record<string, unknown>) => void>>

/** Where a publication belongs. */
export interface PublishOptions {
  /** Writes the event with the transaction: it exists exactly if the transaction commits. Durable types only. */
  tx?: Transaction
  /** The principal's id it belongs to: only that one and admins see it. */
  principal?: string
  subject?: string
  /** The request it came from: gives the trace. */
  request?: Request
}

/** How a listener listens. */
export interface ListenOptions {
  /** Makes it durable: in order, one at a time, at least once, on one node, continuing at this stored cursor. Durable types only. */
  cursor?: string
  /** Where a durable listener starts the first time; default `now`. */
  from?: 'now' | 'oldest'
  /** ms in which a durable listener has to settle, default five minutes; later counts as a throw: it is tried again. */
  deadline?: number
}

type EventRefs = readonly EventRef[]
type ServiceRefs = Readonly<Record<string, ServiceRef>>
/** The objects behind refs. */
export type ServicesOf<R extends ServiceRefs> = { readonly [K in keyof R]: R[K] extends ServiceRef<infer T> ? T : never }
type DataOf<E> = E extends EventRef<string, infer D> ? D : never
type MaybePromise<T> = T | Promise<T>

/** What `setup` works with. Everything registered through it is undone when the plugin stops. */
export interface PluginContext<Config = unknown, Events extends EventRefs = readonly [], Requires extends ServiceRefs = {}, Optional extends ServiceRefs = {}> {
  readonly id: string
  readonly config: Config
  readonly log: Logger
  readonly db: Database
  readonly clock: Clock
  /** Aborted when the plugin has to be gone. */
  readonly signal: AbortSignal
  readonly services: ServicesOf<Requires> & Partial<ServicesOf<Optional>>
  /** Where this gateway keeps its files; a plugin's own go under `files/<id>/` there. */
  readonly dataDir: string
  /** Listens. A throw is reported, never felt by the publisher. */
  on<D>(ref: EventRef<string, D>, listener: (event: GatewayEvent<string, D>) => void | Promise<void>, options?: ListenOptions): void
  /** Publishes an event this plugin owns. Durable: settles when its row is written (with `tx`: in the transaction). Live: returns nothing. */
  publish<E extends Events[number]>(ref: E, data: DataOf<E>, options?: PublishOptions): E extends EventRef<string, unknown, true> ? Promise<void> : void
  /** Adds to a slot named in `adds`; lower `order` (default 0) comes first. */
  add<T>(slot: SlotRef<T>, item: T, options?: { order?: number }): void
  /** The items of a slot this plugin owns, now. Calls of their functions go through the kernel's guard: a throw names the item's owner. */
  items<T>(slot: SlotRef<T>): readonly T[]
  /** Anything else to undo, run in reverse order. */
  defer(undo: () => void | Promise<void>): void
}

/** What `setup` returns. Keys other than these are refused at boot. */
export type SetupResult<Provides extends ServiceRefs, Config> = {
  routes?: readonly RouteGroup[]
  sockets?: readonly SocketRoute[]
  /** After all plugins are set up: start polling, dialing. */
  ready?(signal: AbortSignal): void | Promise<void>
  /** Takes a changed config without a restart; without it the plugin is restarted. */
  reconfigure?(config: Config): void | Promise<void>
} & ([keyof Provides] extends [never] ? { services?: undefined } : { services: ServicesOf<Provides> })

type SetupReturn<Provides extends ServiceRefs, Config> = [keyof Provides] extends [never] ? SetupResult<Provides, Config> | void : SetupResult<Provides, Config>

/** What a plugin says of itself; readable without running `setup`. */
export interface PluginDescriptor<
  Config extends TSchema = TObject<{}>,
  Events extends EventRefs = readonly [],
  Requires extends ServiceRefs = {},
  Optional extends ServiceRefs = {},
  Provides extends ServiceRefs = {},
> {
  /** kebab-case = folder name = config section = prefix of its tables and, for third parties, of its event types. */
  id: string
  version: string
  /** The plugin API's major. */
  api: number
  /** One line for `portico plugins list`. */
  summary: string
  config?: Config
  events?: Events
  scopes?: readonly ScopeRef[]
  requires?: Requires
  optional?: Optional
  provides?: Provides
  /** The roots under which its routes and sockets lie. */
  paths?: readonly string[]
  /** Slots it adds to. */
  adds?: readonly SlotRef[]
  /** Slots it owns and reads. */
  slots?: readonly SlotRef[]
  commands?: readonly CommandRef[]
  /** drizzle tables, named `<id with _>_…`. */
  tables?: Readonly<Record<string, unknown>>
  /** A folder of `0001_name.sql` … applied in order, once. */
  migrations?: URL
  /** What is wrong in keys of `[gateway]` that it answers for: said with all other problems, before anything is set up. */
  check?(gateway: ProxySettings & { readonly tls?: TlsFiles }): readonly Problem[]
  /** What its failure does to the gateway; default `continue`. */
  onFailure?: 'continue' | 'abort'
  /** ms for setup; default 10,000. */
  setupDeadline?: number
  setup(ctx: PluginContext<Static<Config>, Events, Requires, Optional>): MaybePromise<SetupReturn<NoInfer<Provides>, Static<Config>>>
}

const brand = Symbol.for('portico.plugin')

/** A plugin, its types erased: what the kernel loads. */
export interface Plugin extends Omit<PluginDescriptor<TSchema, EventRefs, ServiceRefs, ServiceRefs, ServiceRefs>, 'setup'> {
  readonly [brand]: true
  setup(ctx: never): unknown
}

/**
 * Defines a plugin. Its life:
 *
 * 1. its module is loaded, its descriptor read, api and id checked;
 * 2. the plan: required services, cycles, duplicate roots, events and scopes, every config section; all problems are reported at once;
 * 3. its migrations run (those that provide `dataFolder`, `databaseServer` and `database` are set up first of all, as soon as they are loaded, and have no `ctx.db` before the database is open);
 * 4. `setup(ctx)`, after the plugins it depends on, under a deadline; its routes are built and compiled;
 * 5. one assignment puts the whole route table in place;
 * 6. `ready(signal)`, then the gateway serves;
 * 7. on stop: intake closes, event streams and sockets end, handlers and model streams finish until the deadline, `ctx.signal` aborts, and everything
 *    registered through `ctx` is undone in reverse order.
 *
 * States: `pending ready failed blocked stopped`; each change is an event (`plugin:*`).
 */
export function definePlugin<
  Config extends TSchema = TObject<{}>,
  const Events extends EventRefs = readonly [],
  Requires extends ServiceRefs = {},
  Optional extends ServiceRefs = {},
  Provides extends ServiceRefs = {},
>(descriptor: PluginDescriptor<Config, Events, Requires, Optional, Provides>): Plugin {
  return { ...descriptor, [brand]: true } as unknown as Plugin
}

/** True for what `definePlugin` made, in this or another copy of the package. */
export function isPlugin(value: unknown): value is Plugin {
  return typeof value === 'object' && value !== null && (value as { [brand]?: true })[brand] === true
}
