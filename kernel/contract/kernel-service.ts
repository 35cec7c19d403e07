/** The one service the kernel itself provides. Any plugin may require it; `portico plugins list` marks those that do. */
import type { AnyElysia } from 'elysia'
import type { Access, RouteGroup } from './access.ts'
import type { OpenDatabase } from './database.ts'
import type { SecurityKind } from './errors.ts'
import type { EventDelivery } from './event-log.ts'
import type { Plugin } from './plugin.ts'
import { defineService, defineSlot, type EventRef, type ScopeRef } from './refs.ts'
import type { RequestContext } from './request.ts'
import type { JsonSchema, TSchema } from './schema.ts'

/** Where a plugin is in its life. */
export type PluginState = 'pending' | 'ready' | 'failed' | 'blocked' | 'stopped'

/** A plugin of the plan, and how it is. */
export interface PluginInfo extends Pick<Plugin, 'id' | 'version' | 'summary'> {
  readonly state: PluginState
  /** Why it is failed or blocked. */
  readonly reason?: string
  /** `builtin`, or the specifier it was loaded from. */
  readonly from: string
  /** Its module's path; absent when it was given as a value. */
  readonly file?: string
  /** All that it says of itself: to be read. */
  readonly descriptor: Plugin
}

/** One route of the table. */
export interface RouteInfo {
  readonly plugin: string
  /** `WS` for a socket. */
  readonly method: string
  /** As written: `/v1/models/:id`. */
  readonly path: string
  readonly access: Access
  /** Its group answers with long-lived streams (`stream: true`); true for every socket. */
  readonly stream: boolean
}

/** The compiled app of one route group: what the docs plugin reads schemas from. */
export interface RouteGroupInfo {
  readonly plugin: string
  readonly access: Access
  readonly app: AnyElysia
}

/** An owned event type. */
export interface EventTypeInfo {
  readonly owner: string
  readonly ref: EventRef
}

/** Numbers for `/metrics`. Counters only rise; gauges are of now. */
export interface KernelStats {
  readonly gauges: Readonly<Record<string, number>>
  readonly counters: Readonly<Record<string, number>>
}

/** A finished request, as listeners see it while they are called: what costs is computed when it is read, and nothing of it is to be kept. */
export interface RequestRecord extends Pick<RequestContext, 'requestId' | 'principal' | 'address'> {
  /** As it came in: to be looked at, its body left alone. */
  readonly request: Request
  readonly method: string
  /** The route's template, or `unmatched`. */
  readonly route: string
  readonly status: number
  /** To the head of the answer. */
  readonly seconds: number
  /** Of its route; undefined where no route takes it. */
  readonly group: Pick<RouteGroup, 'access' | 'options'> | undefined
  /** It was refused by an error that is worth a warning. */
  readonly security: SecurityKind | undefined
}

/** A section of the config file: one of the kernel's, or a plugin's. */
export interface ConfigSection {
  readonly id: string
  /** All that may stand in it; a plugin's own keys and those that every plugin's section takes. */
  readonly schema: TSchema
  /** What else is read as part of it: a key of another section (`gateway.tokens`, camelCase), or a whole section under another name (`bus`). */
  readonly aliases: readonly string[]
}

/** What a reload did: the ids of the plugins it touched, and the keys. */
export interface ReloadReport {
  readonly started: readonly string[]
  readonly restarted: readonly string[]
  readonly reconfigured: readonly string[]
  readonly stopped: readonly string[]
  /** Plugins whose config changed, and keys, that are not taken while the gateway runs. */
  readonly needsRestart: readonly string[]
  /** Keys whose values changed: `gateway.maxStreams`. */
  readonly keys: readonly string[]
}

/** What to reload. */
export interface ReloadOptions {
  /** Text of the config file instead of what stands in it; it is not written. */
  readonly text?: string
  /** Plugins to set up anew even if nothing changed for them; a third party's module is loaded again. */
  readonly restart?: readonly string[]
  /** The id of the principal who asked. */
  readonly by?: string
}

/** The kernel's service. */
export interface Kernel {
  readonly version: string
  /** ms since the epoch. */
  readonly startedAt: number
  readonly dataDir: string
  /** The runtime and its version: `bun 1.4.5`. */
  readonly runtime: string
  readonly database: OpenDatabase
  plugins(): readonly PluginInfo[]
  routes(): readonly RouteInfo[]
  routeGroups(): readonly RouteGroupInfo[]
  /** The same list until plugins come or go. */
  eventTypes(): readonly EventTypeInfo[]
  scopes(): readonly { owner: string; ref: ScopeRef }[]
  /** Where numbers come from: the kernel's parts, and the slot `statSources`. One that throws is reported by its slot. */
  statSources(): readonly (() => KernelStats)[]
  /** Called for each finished request; returns the undo. */
  onRequest(listener: (record: RequestRecord) => void): () => void
  /** The running config, secrets redacted; what may stand in it; its text, the file it came from, and the path where that is or would be. */
  config(): { values: JsonSchema; sections: readonly ConfigSection[]; text: string; file: string | null; path: string }
  /** Where the running config refers to a secret, and by what (`env:NAME`): each has been resolved. */
  references(): readonly Readonly<Record<'section' | 'key' | 'reference', string>>[]
  /**
   * Takes the config as it stands now. One after the other; what runs goes on until the new is ready.
   * @throws GatewayError `plan_invalid` or `plugin_failed`, with every problem: then nothing has changed
   */
  reload(options?: ReloadOptions): Promise<ReloadReport>
  /** Checks a text of the config file as a start would; gives every problem as one line. */
  check(text: string): Promise<readonly string[]>
  /** Ends the process in order; absent when it is not the gateway's own. */
  readonly endProcess?: () => void
  /** The text without the gateway's secrets: for what is published or sent. */
  redact(text: string): string
  /** Reports a fault of a plugin: logged, counted, published as `system:error`. */
  report(plugin: string, what: string, error: unknown): void
  /** Ends every live connection of this credential and forgets its cached tokens. */
  revoke(via: string): void
  /** Every event of every plugin, live and durable, as it is delivered; returns the undo. */
  subscribeAll(listener: (event: EventDelivery) => void): () => void
}

/** The ref of the kernel's service. */
export const kernel = defineService<Kernel>('kernel')

/** Numbers that a plugin adds to the kernel's, asked for at each look. A name has one owner. */
export const statSources = defineSlot<() => KernelStats>('stats')
