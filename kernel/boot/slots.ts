/** Slots: typed lists that many plugins add to. Calls of an item's functions are guarded, so that a throw names the item's owner. */
import { GatewayError, isGatewayError } from '../contract/errors.ts'
import { isConnectionError } from '../store/connection-errors.ts'

interface Entry {
  readonly owner: string
  readonly planIndex: number
  readonly order: number
  readonly item: unknown
}

/** Told of a throw in an item: owner, which function of which slot, the error. */
export type SlotErrorHandler = (owner: string, what: string, error: unknown) => void

/** The lists, each sorted by `order`, then by the owner's place in the plan. */
export class Slots {
  readonly #entries = new Map<string, Entry[]>()
  readonly #lists = new Map<string, readonly unknown[]>()
  readonly #onError: SlotErrorHandler

  constructor(onError: SlotErrorHandler) {
    this.#onError = onError
  }

  /** Adds an item; the returned function withdraws it. */
  add(slot: string, item: unknown, at: { owner: string; planIndex: number; order: number }): () => void {
    const entry: Entry = { ...at, item: guardItem(item, at.owner, slot, this.#onError) }
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

function guardItem(item: unknown, owner: string, slot: string, onError: SlotErrorHandler): unknown {
  if (typeof item === 'function') return guardFunction(item as Callable, undefined, { owner, slot, name: 'call', onError })
  if (typeof item !== 'object' || item === null) return item
  const guarded: Record<PropertyKey, unknown> = Object.create(item)
  for (let level: object | null = item; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    for (const name of Object.getOwnPropertyNames(level)) {
      const property = Object.getOwnPropertyDescriptor(level, name)
      if (name === 'constructor' || Object.hasOwn(guarded, name)) continue
      if (property?.get) Object.defineProperty(guarded, name, { get: () => Reflect.get(item, name), enumerable: true })
      if (typeof property?.value !== 'function') continue
      Object.defineProperty(guarded, name, { value: guardFunction(property.value as Callable, item, { owner, slot, name, onError }), enumerable: true })
    }
  }
  return guarded
}

type Callable = (...args: unknown[]) => unknown

interface GuardOptions {
  owner: string
  slot: string
  name: string
  onError: SlotErrorHandler
}

function guardFunction(call: Callable, self: unknown, options: GuardOptions): Callable {
  const rethrow = (error: unknown): never => {
    // A database that goes away is a normal state, and nobody's fault.
    if (isGatewayError(error) || isAbort(error) || isConnectionError(error)) throw error
    options.onError(options.owner, `${options.slot}.${options.name}`, error)
    throw new GatewayError('plugin_failed', `Its ${options.name}() in the slot "${options.slot}" failed; the log has the cause.`, {
      plugin: options.owner,
      cause: error,
    })
  }
  return (...args) => {
    try {
      const result = call.apply(self, args)
      return result instanceof Promise ? result.catch(rethrow) : result
    } catch (error) {
      return rethrow(error)
    }
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')
}
