/** What a row of the benchmark is: one number of the gateway beside the same number of a baseline, measured in turns. */

/** A prepared row. Each call measures once. */
export interface Prepared {
  baseline(): Promise<number>
  gateway(): Promise<number>
}

/** A row. The ratio is gateway ÷ baseline. */
export interface Row {
  readonly id: string
  /** One line for the table: what is measured, and against what. */
  readonly title: string
  /** Of the numbers, e.g. `req/s`. */
  readonly unit: string
  /** Digits after the point in the table. */
  readonly digits: number
  /** The promise: the ratio is at least, or at most, so much. */
  readonly bound: { readonly least: number } | { readonly most: number }
  /** Starts what it needs; everything given to `scope` ends after the row, in reverse order. */
  prepare(scope: AsyncDisposableStack): Promise<Prepared>
}
