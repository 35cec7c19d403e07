import { describe, expect, test } from 'bun:test'
import { fault, measured } from './judge.ts'
import type { Bound, Figure } from './row.ts'

const figure = (bound: Bound): Figure => ({ id: 'x', title: 'x', unit: 'ms', digits: 0, bound })
const judged = (bound: Bound, value: number, recorded?: number) => {
  const as = (value: number) => ({ baseline: 1, gateway: value, value, low: value, high: value })
  return fault(figure(bound), as(value), recorded === undefined ? undefined : as(recorded))
}

test('the value is the median of the rounds’ ratios, not the ratio of the medians', () => {
  expect(measured(figure({ least: 0.5 }), [50, 90, 60], [100, 100, 200])).toEqual({ baseline: 100, gateway: 60, value: 0.5, low: 0.3, high: 0.9 })
  expect(measured(figure({ over: 400 }), [310, 300, 320], [10, 20, 20])).toMatchObject({ value: 300, low: 280, high: 300 })
  expect(measured(figure({ atMost: 1 }), [0.4])).toEqual({ baseline: null, gateway: 0.4, value: 0.4, low: 0.4, high: 0.4 })
})

describe('a figure fails', () => {
  test.each<[string, Bound, number, number | undefined, string | undefined]>([
    ['under its bound', { least: 0.65 }, 0.64, undefined, 'beyond its bound ≥ 0.65'],
    ['over its bound', { most: 1.4 }, 1.41, 1.4, 'beyond its bound ≤ 1.4'],
    ['over its difference', { over: 400 }, 401, undefined, 'beyond its bound ≤ +400'],
    ['a fifth under what was recorded', { least: 0.65 }, 0.71, 0.9, 'more than 20 % worse than the recorded 0.90'],
    ['a fifth over what was recorded', { most: 1.65 }, 1.4, 1.1, 'more than 20 % worse than the recorded 1.10'],
    ['a fifth of the bound over a difference', { over: 400 }, 290, 200, 'more than 20 % worse than the recorded 200.00'],
  ])('%s', (_, bound, value, recorded, said) => expect(judged(bound, value, recorded)).toBe(said))

  test.each<[string, Bound, number, number | undefined]>([
    ['at its bound', { least: 0.65 }, 0.65, undefined],
    ['less than a fifth under what was recorded', { least: 0.65 }, 0.73, 0.9],
    ['better than what was recorded', { most: 1.65 }, 0.9, 1.5],
    ['a small difference over a recorded nothing', { over: 400 }, 70, 0],
  ])('but not %s', (_, bound, value, recorded) => expect(judged(bound, value, recorded)).toBeUndefined())
})
