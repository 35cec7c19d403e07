/** Slots: typed lists that many plugins add to. Calls of an item's functions are guarded, so that a throw names the item's owner. */
import { inTime } from '../contract/deadlines.ts'
import { GatewayError, isGatewayError } from '../contract/errors.ts'

/** Who adds an item, and where; without a deadline its promises may take their time. */
export interface Place {
  readonly owner: string
  readonly planIndex: number
  readonly order: number
  readonly deadline?: number
}

interface Entry extends Place {
  readonly item: unknown
}

interface Slot {
  readonly entries: readonly Entry[]
  readonly items: readonly unknown[]
}

/** Told of a throw in an item: owner, which function of which slot, the error. */
export type SlotErrorHandler = (owner: string, what: string, error: unknown) => void

type Callable = (...args: unknown[]) => unknown
type Guard = (name: string, call: Callable, self?: unknown) => Callable

/** The lists, each sorted by `order`, then by the owner's place in the plan. */
export class Slots {
  readonly #slots = new Map<string, Slot>()
  readonly #onError: SlotErrorHandler
  readonly #isUnavailable: (error: unknown) => boolean

  /** `isUnavailable`: a database that goes away is a normal state, and nobody's fault. */
  constructor(onError: SlotErrorHandler, isUnavailable: (error: unknown) => boolean) {
    this.#onError = onError
    this.#isUnavailable = isUnavailable
  }

  /** Adds an item; the returned function withdraws it. */
  add(slot: string, item: unknown, place: Place): () => void {
    const entry: Entry = { ...place, item: guardItem(item, this.#guard(slot, place)) }
    this.#change(slot, (entries) => [...entries, entry].sort((a, b) => a.order - b.order || a.planIndex - b.planIndex))
    return () => this.#change(slot, (entries) => entries.filter((other) => other !== entry))
  }

  /** The items now; the same array until the slot changes. */
  items(slot: string): readonly unknown[] {
    return this.#slots.get(slot)?.items ?? []
  }

  #change(slot: string, change: (entries: readonly Entry[]) => readonly Entry[]): void {
    const entries = change(this.#slots.get(slot)?.entries ?? [])
    this.#slots.set(slot, { entries, items: Object.freeze(entries.map(({ item }) => item)) })
  }

  #guard(slot: string, { owner: plugin, deadline = Number.POSITIVE_INFINITY }: Place): Guard {
    return (name, call, self) => {
      const report = (error: unknown) => this.#onError(plugin, `${slot}.${name}`, error)
      const rethrow = (error: unknown): never => {
        if (isGatewayError(error) || isAbort(error) || this.#isUnavailable(error)) throw error
        report(error)
        throw new GatewayError('plugin_failed', `Its ${name}() in the slot "${slot}" failed; the log has the cause.`, { plugin, cause: error })
      }
      const late = () => {
        const error = new GatewayError('deadline_exceeded', `Its ${name}() in the slot "${slot}" did not settle within ${deadline} ms.`, { plugin })
        report(error)
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
  }
}

/** The item with its functions, its own and inherited ones, guarded. */
function guardItem(item: unknown, guard: Guard): unknown {
  if (typeof item === 'function') return guard('call', item as Callable)
  if (typeof item !== 'object' || item === null) return item
  const guarded: Record<PropertyKey, unknown> = Object.create(item)
  for (let level: object | null = item; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(level))) {
      if (name === 'constructor' || Object.hasOwn(guarded, name)) continue
      if (property.get) Object.defineProperty(guarded, name, { get: () => Reflect.get(item, name), enumerable: true })
      if (typeof property.value !== 'function') continue
      Object.defineProperty(guarded, name, { value: guard(name, property.value as Callable, item), enumerable: true })
    }
  }
  return guarded
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')
}
