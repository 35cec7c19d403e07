import { expect, test } from 'bun:test'
import { toPage } from './page.ts'
import recorded from './recorded.json'
import type { Figure, Row } from './row.ts'
import { rows } from './rows.ts'

const figures = rows.flatMap((row) => row.figures)

test('the page has a line for each figure and runtime that was recorded, and says what limits a figure that misses its bound', () => {
  const figure = (id: string, limit: string): Figure => ({ id, title: `the ${id}`, unit: 'ms', digits: 1, bound: { most: 1.4 }, limit })
  const row: Row = {
    id: 'row',
    figures: [figure('kept', 'nothing'), figure('missed', 'the disk'), figure('unmeasured', 'time')],
    prepare: async () => ({ gateway: async () => [] }),
  }
  const as = (value: number) => ({ baseline: 10, gateway: 10 * value, value, low: value, high: value + 0.1 })
  const page = toPage({ machines: { bun: 'Bun on a machine' }, figures: { kept: { bun: as(1.2), deno: as(1.3) }, missed: { bun: as(1.5) } } }, [row])
  expect(page.split('\n').filter((line) => line.startsWith('| the'))).toEqual([
    '| the kept | Bun | 10.0 ms | 12.0 ms | **1.20** (1.20–1.30) | ≤ 1.4 |',
    '| the kept | Deno | 10.0 ms | 13.0 ms | **1.30** (1.30–1.40) | ≤ 1.4 |',
    '| the missed | Bun | 10.0 ms | 15.0 ms | **1.50** (1.50–1.60) | ≤ 1.4 **missed** |',
  ])
  expect(page).toContain('Bun on a machine')
  expect(page).toContain('- the missed: the disk')
  expect(page).not.toContain('nothing')
})

test('what is recorded belongs to a figure there is, and no two figures share a name', () => {
  const ids = figures.map(({ id }) => id)
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids).toEqual(expect.arrayContaining(Object.keys(recorded.figures)))
})
