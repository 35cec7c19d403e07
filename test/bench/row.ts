/** What a row of the benchmark is: figures of the gateway beside the same figures of a baseline, measured in turns. */
import type { RuntimeName } from '../fixtures/gateway-process.ts'

/** The promise, of the medians: gateway ÷ baseline is at least or at most so much; gateway − baseline is at most so much; or, without a baseline, the gateway's number is. */
export type Bound = { readonly least: number } | { readonly most: number } | { readonly over: number } | { readonly atMost: number }

/** One number of a row. */
export interface Figure {
  /** Its name in `recorded.json`. */
  readonly id: string
  /** One line for the table: what is measured, and against what. */
  readonly title: string
  /** Of the numbers, e.g. `req/s`. */
  readonly unit: string
  /** Digits after the point in the table. */
  readonly digits: number
  readonly bound: Bound
  /** What limits it, shown where the bound is missed. */
  readonly limit?: string
}

/** A prepared row. Each call measures once, and gives the figures in their order. */
export interface Prepared {
  /** Absent where the figures are the gateway's alone. */
  baseline?(): Promise<readonly number[]>
  gateway(): Promise<readonly number[]>
}

/** What a row is prepared with. */
export interface Bench {
  /** On which gateway and baselines run; clients and the mock upstream always run on Bun. */
  readonly runtime: RuntimeName
  /** Of the soak. */
  readonly minutes: number
}

/** A row. */
export interface Row {
  readonly id: string
  readonly figures: readonly Figure[]
  /** How often each side is measured; default 5, after a round to warm up. One that starts its processes anew needs no such round. */
  readonly rounds?: number
  readonly cold?: boolean
  /** True: only when it is asked for. */
  readonly apart?: boolean
  /** Starts what it needs; everything given to `scope` ends after the row, in reverse order. */
  prepare(scope: AsyncDisposableStack, bench: Bench): Promise<Prepared>
}
