/** A set for what comes and goes with every request. Internal to the kernel. */

/** What may be in a bag: it keeps its place there, for the bag. */
export interface Bagged {
  place?: number
}

/** Items without order. Not a `Set`: each table that a set outgrows leads to the next one, so that the collector's young generation keeps all that came and went (docs/decisions/0018-no-sets-for-requests.md). */
export class Bag<T extends Bagged> {
  readonly #items: T[] = []

  /** How many there are. */
  get size(): number {
    return this.#items.length
  }

  /** Those of now: items may come and go meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return [...this.#items].values()
  }

  add(item: T): void {
    item.place = this.#items.push(item) - 1
  }

  /** False if it is not in the bag. */
  delete(item: T): boolean {
    if (item.place === undefined) return false
    const last = this.#items.pop() as T
    if (last !== item) this.#items[item.place] = last
    last.place = item.place
    item.place = undefined
    return true
  }
}
