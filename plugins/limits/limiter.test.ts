import { expect, test } from 'bun:test'
import { Limiter } from './limiter.ts'

function limiter(maxRequests: number, windowMs = 1_000, maxKeys?: number) {
  const clock = { now: 10_000 }
  return { clock, limiter: new Limiter({ windowMs, maxRequests, maxKeys, now: () => clock.now }) }
}
const hits = (count: number, hit: () => { allowed: boolean }) => Array.from({ length: count }, () => hit().allowed).filter(Boolean).length

test('allows as many calls as the limit in one window, and says what remains', () => {
  const { limiter: limit } = limiter(3)
  expect(limit.hit('a')).toEqual({ allowed: true, limit: 3, remaining: 2, resetSeconds: 1 })
  expect(limit.hit('a').remaining).toBe(1)
  expect(limit.hit('a').remaining).toBe(0)
  expect(limit.hit('a')).toMatchObject({ allowed: false, remaining: 0 })
  expect(limit.hit('b').allowed).toBe(true)
})

test('the window slides: no double burst around the edge of a window', () => {
  const { limiter: limit, clock } = limiter(100)
  clock.now = 10_990
  expect(hits(200, () => limit.hit('a'))).toBe(100)
  clock.now = 11_010
  expect(hits(200, () => limit.hit('a'))).toBeLessThanOrEqual(1)
  clock.now = 11_500
  expect(hits(200, () => limit.hit('a'))).toBeWithin(45, 51)
  clock.now = 20_000
  expect(hits(200, () => limit.hit('a'))).toBe(100)
})

test('in any window the limit is overrun by no more than the estimate’s error', () => {
  const { limiter: limit, clock } = limiter(50)
  const allowed: number[] = []
  for (clock.now = 10_000; clock.now < 20_000; clock.now += 7) if (limit.hit('a').allowed) allowed.push(clock.now)
  for (const start of allowed) expect(allowed.filter((at) => at >= start && at < start + 1_000).length).toBeLessThanOrEqual(55)
  expect(allowed.length).toBeGreaterThan(450)
})

test('Retry-After is long enough: after that wait the call is allowed', () => {
  for (const [used, at] of [
    [10, 0],
    [10, 40_000],
    [10, 59_000],
    [60, 1_764_184_641_000],
    [60, 1_764_184_690_000],
  ] as const) {
    const { limiter: limit, clock } = limiter(used, 60_000)
    clock.now = 60_000 * 100 + at
    hits(used, () => limit.hit('a'))
    const refused = limit.hit('a')
    expect(refused.allowed).toBe(false)
    clock.now += refused.resetSeconds * 1_000
    expect(limit.peek('a').allowed).toBe(true)
  }
})

test('a refused call does not count, so a client that keeps asking gets in again', () => {
  const { limiter: limit, clock } = limiter(10)
  hits(1_000, () => limit.hit('a'))
  clock.now += 2_000
  expect(limit.hit('a').allowed).toBe(true)
})

test('200,000 addresses cost at most 20 MB, and the keys in memory are bounded', () => {
  const { limiter: limit, clock } = limiter(100, 60_000)
  Bun.gc(true)
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 200_000; i++) {
    if (i === 100_000) clock.now += 60_000
    limit.hit(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
  }
  Bun.gc(true)
  expect(limit.size).toBeWithin(100_000, 131_073)
  expect((process.memoryUsage().heapUsed - before) / 1_048_576).toBeLessThan(20)
})

test('a flood of new keys makes those forgotten that were seen once, not those that were seen often', () => {
  const { limiter: limit } = limiter(10, 60_000, 1_024)
  hits(10, () => limit.hit('guesser'))
  for (let i = 0; i < 50_000; i++) limit.hit(`stranger-${i}`)
  expect(limit.hit('guesser').allowed).toBe(false)
  expect(limit.size).toBeLessThanOrEqual(1_024)
})
