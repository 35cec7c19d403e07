/** One running plugin: its context, its state, and everything it registered, undone in reverse order. */
import type { Bus } from '../bus/bus.ts'
import type { OpenDatabase } from '../contract/database.ts'
import { withDeadline } from '../contract/deadlines.ts'
import { GatewayError } from '../contract/errors.ts'
import type { GatewayEvent } from '../contract/event.ts'
import type { PluginState } from '../contract/kernel-service.ts'
import type { Clock, ListenOptions, Logger, PluginContext, PublishOptions, SetupResult } from '../contract/plugin.ts'
import { nearestName, PlanError, type Problem } from '../contract/problem.ts'
import type { EventRef, SlotRef } from '../contract/refs.ts'
import { type CompiledPlugin, compilePlugin } from '../http/compile.ts'
import type { PlannedPlugin } from './plan.ts'
import type { Slots } from './slots.ts'

const setupDeadline = 10_000
const readyDeadline = 10_000
const undoDeadline = 5_000

/** What instances share. */
export interface InstanceHost {
  readonly bus: Bus
  readonly slots: Slots
  /** Throws while it is not open, by the name of the plugin and what it would have of it. */
  database(plugin: string, what: string): OpenDatabase
  readonly clock: Clock
  readonly dataDir: string
  logFor(plugin: string): Logger
  onError(plugin: string, what: string, error: unknown): void
  /** The text without the gateway's secrets. */
  redact(text: string): string
}

type Result = Omit<SetupResult<{}, unknown>, 'services'> & { services?: Record<string, unknown> }

const resultKeys = ['routes', 'sockets', 'services', 'ready', 'reconfigure']

/** A plugin between `setup` and its last undo. One that is set up beside another of its id takes effect, in what it listens to and adds, at `activate`. */
export class Instance {
  planned: PlannedPlugin
  readonly #host: InstanceHost
  readonly #undo: (() => void | Promise<void>)[] = []
  /** Of what it listens to and adds. */
  readonly #effects: (() => void)[] = []
  #staged: (() => void)[] | null
  readonly #abort = new AbortController()
  #result: Result = {}
  state: PluginState = 'pending'
  reason: string | undefined
  compiled: CompiledPlugin | undefined

  constructor(planned: PlannedPlugin, host: InstanceHost, { beside = false } = {}) {
    this.planned = planned
    this.#host = host
    this.#staged = beside ? [] : null
  }

  get id(): string {
    return this.planned.plugin.id
  }

  /** Set up, or ready. */
  get isUp(): boolean {
    return this.state === 'ready' || (this.state === 'pending' && this.compiled !== undefined)
  }

  /** The service objects it provides, by service id. */
  services(): Map<string, unknown> {
    return new Map(Object.entries(this.planned.plugin.provides ?? {}).map(([key, ref]) => [ref.id, this.#result.services?.[key]]))
  }

  /** Runs `setup` under its deadline and compiles its routes, once. Problems are breaches of the contract; anything else it throws is its own failure. `service` finds what it requires. */
  async setup(service: (id: string) => unknown): Promise<readonly Problem[]> {
    const { plugin } = this.planned
    if (this.compiled) return []
    const ms = plugin.setupDeadline ?? setupDeadline
    try {
      const call = plugin.setup as unknown as (ctx: PluginContext) => unknown
      const returned = await withDeadline(
        Promise.resolve().then(() => call(this.#context(service))),
        ms,
        'setup',
      )
      this.#result = (returned ?? {}) as Result
      const problems = this.#checkResult(returned)
      const { compiled, problems: routeProblems } = await withDeadline(
        compilePlugin(this.id, plugin.paths ?? [], this.#result.routes ?? [], this.#result.sockets ?? []),
        ms,
        'compiling its routes',
      )
      this.compiled = compiled
      return [...problems, ...routeProblems]
    } catch (error) {
      if (error instanceof PlanError) return error.problems
      throw error
    }
  }

  /** Runs `ready` under its deadline. */
  async ready(): Promise<void> {
    await withDeadline(Promise.resolve(this.#result.ready?.(this.#abort.signal)), readyDeadline, 'ready')
    this.state = 'ready'
  }

  /** True if it takes a changed config without a restart. */
  get isReconfigurable(): boolean {
    return this.#result.reconfigure !== undefined
  }

  /** Hands it the config of its new place in the plan. */
  async reconfigure(planned: PlannedPlugin): Promise<void> {
    await withDeadline(Promise.resolve(this.#result.reconfigure?.(planned.config)), setupDeadline, 'reconfigure')
    this.planned = planned
  }

  /** What was staged takes effect. */
  activate(): void {
    for (const apply of this.#staged?.splice(0) ?? []) apply()
    this.#staged = null
  }

  /** It hears nothing and contributes nothing any more; requests that it has begun go on. */
  withdraw(): void {
    this.#staged = null
    for (const undo of this.#effects.splice(0).reverse()) undo()
  }

  /** Aborts its signal and undoes everything, last first; each undo under a deadline, a throw never stops the next. */
  async unwind(state: 'failed' | 'stopped', reason?: string): Promise<void> {
    this.state = state
    this.reason = reason
    this.#abort.abort(new GatewayError('unavailable', 'The plugin was stopped.', { plugin: this.id }))
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        await withDeadline(Promise.resolve(undo()), undoDeadline, 'a disposer')
      } catch (error) {
        this.#host.onError(this.id, 'disposer', error)
      }
    }
  }

  #checkResult(returned: unknown): Problem[] {
    const where = this.id
    if (returned !== undefined && (typeof returned !== 'object' || returned === null)) {
      return [{ where, key: 'setup', what: 'returned no object', found: typeof returned, expected: resultKeys.join(', ') }]
    }
    const problems: Problem[] = Object.keys(this.#result)
      .filter((key) => !resultKeys.includes(key))
      .map((key) => ({ where, key, what: "is no key of setup's result", expected: resultKeys.join(', '), nearest: nearestName(key, resultKeys) }))
    const [{ provides = {} }, { services = {} }] = [this.planned.plugin, this.#result]
    for (const key of new Set([...Object.keys(provides), ...Object.keys(services)])) {
      const isDeclared = Object.hasOwn(provides, key)
      const what = isDeclared ? 'is declared in provides, but setup did not return it' : 'is returned by setup, but not declared in provides'
      if (!isDeclared || services[key] == null) problems.push({ where, key: `services.${key}`, what })
    }
    return problems
  }

  /** Now, or at `activate`; undone once, in its turn or at `withdraw`. A breach shows at once. */
  #effect(apply: () => () => void): void {
    let undo: (() => void) | undefined
    const run = () => {
      undo = apply()
    }
    const end = () => {
      undo?.()
      undo = undefined
    }
    if (this.#staged) this.#staged.push(run)
    else run()
    this.#effects.push(end)
    this.#undo.push(end)
  }

  #context(service: (id: string) => unknown): PluginContext {
    const { plugin, index, config } = this.planned
    const host = this.#host
    const owned = (plugin.events ?? []).map(({ type }) => type)
    const addable = (plugin.adds ?? []).map(({ id }) => id)
    const readable = (plugin.slots ?? []).map(({ id }) => id)
    const check = (key: string, declared: readonly string[], what: string) => {
      if (!declared.includes(key)) throw new PlanError([{ where: this.id, key, what, nearest: nearestName(key, declared) }])
    }
    const services: Record<string, unknown> = {}
    for (const [key, ref] of Object.entries({ ...plugin.optional, ...plugin.requires })) services[key] = service(ref.id)
    const ctx: PluginContext<unknown, readonly EventRef[]> = {
      id: this.id,
      config,
      log: host.logFor(this.id),
      get db() {
        return host.database(plugin.id, 'db').db
      },
      clock: host.clock,
      signal: this.#abort.signal,
      services: services as never,
      dataDir: host.dataDir,
      on: (ref: EventRef, listener: (event: GatewayEvent<string, never>) => void | Promise<void>, options?: ListenOptions) => {
        const cursor = options?.cursor === undefined ? undefined : { ...options, cursor: `${this.id}/${options.cursor}` }
        this.#effect(() => host.bus.on(this.id, ref, listener as never, cursor ?? options))
      },
      publish: ((ref: EventRef, data: unknown, options?: PublishOptions) => {
        check(ref.type, owned, 'is published, but not declared in events')
        return host.bus.publish(this.id, ref, data, options)
      }) as never,
      add: (slot: SlotRef, item: unknown, options?: { order?: number }) => {
        check(slot.id, addable, 'is added to, but not declared in adds')
        this.#effect(() => host.slots.add(slot.id, item, { owner: this.id, planIndex: index, order: options?.order ?? 0, deadline: slot.deadline }))
      },
      items: ((slot: SlotRef) => {
        check(slot.id, readable, 'is read, but not declared in slots')
        return host.slots.items(slot.id)
      }) as never,
      defer: (undo) => void this.#undo.push(undo),
    }
    return ctx as PluginContext
  }
}
