/** Slots: typed lists that many plugins add to. Calls of an item's functions are guarded, so that a throw names the item's owner. */
import { inTime } from '../contract/deadlines.ts'
import { GatewayError, isGatewayError } from '../contract/errors.ts'

interface Entry {
  readonly owner: string
  readonly planIndex: number
  readonly order: number
  readonly item: unknown
}

/** Who adds an item, and where; without a deadline its promises may take their time. */
export interface Place extends Omit<Entry, 'item'> {
  readonly deadline?: number
}

/** Told of a throw in an item: owner, which function of which slot, the error. */
export type SlotErrorHandler = (owner: string, what: string, error: unknown) => void

/** The lists, each sorted by `order`, then by the owner's place in the plan. */
export class Slots {
  readonly #entries = new Map<string, Entry[]>()
  readonly #lists = new Map<string, readonly unknown[]>()
  readonly #guard: Pick<GuardOptions, 'onError' | 'isUnavailable'>

  /** `isUnavailable`: a database that goes away is a normal state, and nobody's fault. */
  constructor(onError: SlotErrorHandler, isUnavailable: (error: unknown) => boolean) {
    this.#guard = { onError, isUnavailable }
  }

  /** Adds an item; the returned function withdraws it. */
  add(slot: string, item: unknown, { deadline = Number.POSITIVE_INFINITY, ...at }: Place): () => void {
    const entry: Entry = { ...at, item: guardItem(item, { owner: at.owner, slot, deadline, ...this.#guard }) }
    const next = [...(this.#entries.get(slot) ?? []), entry].sort((a, b) => a.order - b.order || a.planIndex - b.planIndex)
    this.#set(slot, next)
    return () =>
      this.#set(
        slot,
        (this.#entries.get(slot) ?? []).filter((other) => other !== entry),
      )
  }

  /** The items now; the same array until the slot changes. */
  items(slot: string): readonly unknown[] {
    return this.#lists.get(slot) ?? []
  }

  #set(slot: string, entries: Entry[]): void {
    this.#entries.set(slot, entries)
    this.#lists.set(slot, Object.freeze(entries.map((entry) => entry.item)))
  }
}

function guardItem(item: unknown, options: Omit<GuardOptions, 'name'>): unknown {
  if (typeof item === 'function') return guardFunction(item as Callable, undefined, { ...options, name: 'call' })
  if (typeof item !== 'object' || item === null) return item
  const guarded: Record<PropertyKey, unknown> = Object.create(item)
  for (let level: object | null = item; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    for (const name of Object.getOwnPropertyNames(level)) {
      const property = Object.getOwnPropertyDescriptor(level, name)
      if (name === 'constructor' || Object.hasOwn(guarded, name)) continue
      if (property?.get) Object.defineProperty(guarded, name, { get: () => Reflect.get(item, name), enumerable: true })
      if (typeof property?.value !== 'function') continue
      Object.defineProperty(guarded, name, { value: guardFunction(property.value as Callable, item, { ...options, name }), enumerable: true })
    }
  }
  return guarded
}

type Callable = (...args: unknown[]) => unknown

interface GuardOptions {
  owner: string
  slot: string
  name: string
  deadline: number
  onError: SlotErrorHandler
  isUnavailable(error: unknown): boolean
}

function guardFunction(call: Callable, self: unknown, options: GuardOptions): Callable {
  const rethrow = (error: unknown): never => {
    if (isGatewayError(error) || isAbort(error) || options.isUnavailable(error)) throw error
    options.onError(options.owner, `${options.slot}.${options.name}`, error)
    throw new GatewayError('plugin_failed', `Its ${options.name}() in the slot "${options.slot}" failed; the log has the cause.`, {
      plugin: options.owner,
      cause: error,
    })
  }
  const { deadline, name, owner, slot } = options
  const late = () => {
    const error = new GatewayError('deadline_exceeded', `Its ${name}() in the slot "${slot}" did not settle within ${deadline} ms.`, { plugin: owner })
    options.onError(owner, `${slot}.${name}`, error)
    return error
  }
  return (...args) => {
    try {
      const result = call.apply(self, args)
      if (!(result instanceof Promise)) return result
      return (deadline === Number.POSITIVE_INFINITY ? result : inTime(result, deadline, late)).catch(rethrow)
    } catch (error) {
      return rethrow(error)
    }
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')
}
