/** How often each key was seen, for very many keys in very little memory: a table of fixed size, in which a key seen seldom makes room for a new one. */

const ways = 8
const seed = crypto.getRandomValues(new Uint32Array(2))

/** A key as 53 bits. Seeded, so that nobody can choose keys that share a count or a place. */
export function digestOf(key: string): number {
  let [high = 0, low = 0] = seed
  for (let at = 0; at < key.length; at++) {
    const code = key.charCodeAt(at)
    high = Math.imul(high ^ code, 2_654_435_761)
    low = Math.imul(low ^ code, 1_597_334_677)
  }
  high = Math.imul(high ^ (high >>> 16), 2_246_822_507) ^ Math.imul(low ^ (low >>> 13), 3_266_489_909)
  low = Math.imul(low ^ (low >>> 16), 2_246_822_507) ^ Math.imul(high ^ (high >>> 13), 3_266_489_909)
  return (high & 0x1f_ff_ff) * 0x1_00_00_00_00 + (low >>> 0)
}

/** Counts by digest. Twelve bytes a place, allocated when the first key comes. */
export class Counts {
  readonly #places: number
  #keys: Float64Array | undefined
  #counts = new Uint32Array(0)
  #size = 0

  /** `places`: a multiple of eight. */
  constructor(places: number) {
    this.#places = places
  }

  /** Keys in it. */
  get size(): number {
    return this.#size
  }

  /** 0 for one that is not there. */
  get(digest: number): number {
    if (!this.#keys) return 0
    const from = this.#from(digest)
    for (let at = from; at < from + ways; at++) if (this.#keys[at] === digest) return this.#counts[at] ?? 0
    return 0
  }

  /** One more. Of the eight places where a key can stand, a new one takes an empty one, else that of the least seen. */
  add(digest: number): void {
    if (!this.#keys) {
      this.#keys = new Float64Array(this.#places)
      this.#counts = new Uint32Array(this.#places)
    }
    const from = this.#from(digest)
    let least = from
    for (let at = from; at < from + ways; at++) {
      const count = this.#counts[at] ?? 0
      if (count > 0 && this.#keys[at] === digest) {
        this.#counts[at] = count + 1
        return
      }
      if (count < (this.#counts[least] ?? 0)) least = at
    }
    if (this.#counts[least] === 0) this.#size++
    this.#keys[least] = digest
    this.#counts[least] = 1
  }

  #from(digest: number): number {
    return (digest % (this.#places / ways)) * ways
  }
}
