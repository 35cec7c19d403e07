/** Judges what was measured: by the promised bound, and by what was recorded before. */
import type { Bound, Figure } from './row.ts'

/** A figure of one runtime, as it is recorded: medians of both sides; the value is what the bound speaks of. */
export interface Measured {
  /** Null where there is none. */
  readonly baseline: number | null
  readonly gateway: number
  readonly value: number
  /** The smallest and the largest of the rounds. */
  readonly low: number
  readonly high: number
}

/** So much worse than recorded is a loss. */
const tolerance = 0.2

/** Puts the rounds of both sides together; the value is the median of the rounds' own, so that what drifts on the machine drifts for both. */
export function measured({ bound }: Figure, gateway: readonly number[], baseline?: readonly number[]): Measured {
  const values = gateway.map((number, round) => compare(bound, number, baseline?.[round] ?? 0))
  return {
    baseline: baseline ? median(baseline) : null,
    gateway: median(gateway),
    value: median(values),
    low: Math.min(...values),
    high: Math.max(...values),
  }
}

/** What is wrong with it, in words; undefined when nothing is. */
export function fault({ bound }: Figure, { value }: Measured, recorded: Measured | undefined): string | undefined {
  if (!holds(bound, value)) return `beyond its bound ${boundText(bound)}`
  if (recorded && isLoss(bound, value, recorded.value)) return `more than ${tolerance * 100} % worse than the recorded ${recorded.value.toFixed(2)}`
  return undefined
}

/** True if the bound is kept. */
export function holds(bound: Bound, value: number): boolean {
  return 'least' in bound ? value >= bound.least : value <= limitOf(bound)
}

/** `≥ 0.65`, `≤ +400`. */
export function boundText(bound: Bound): string {
  if ('least' in bound) return `≥ ${bound.least}`
  return 'over' in bound ? `≤ +${bound.over}` : `≤ ${limitOf(bound)}`
}

function compare(bound: Bound, gateway: number, baseline: number): number {
  if ('atMost' in bound) return gateway
  return 'over' in bound ? gateway - baseline : gateway / baseline
}

function limitOf(bound: Exclude<Bound, { least: number }>): number {
  if ('most' in bound) return bound.most
  return 'over' in bound ? bound.over : bound.atMost
}

/** A ratio by its fifth; a difference or a number, which may be near zero, by a fifth of its bound. */
function isLoss(bound: Bound, value: number, recorded: number): boolean {
  if ('least' in bound) return value < recorded * (1 - tolerance)
  if ('most' in bound) return value > recorded / (1 - tolerance)
  return value > recorded + tolerance * Math.max(Math.abs(recorded), limitOf(bound))
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number
}
