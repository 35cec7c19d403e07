import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { fromWireName, toWireName, wireForm } from './wire-names.ts'

const anyName = fc.oneof(
  fc.string({ minLength: 1, maxLength: 80, unit: 'binary' }),
  fc.string({ minLength: 1, maxLength: 80 }),
  fc.stringMatching(/^[A-Za-z0-9_-]{1,70}$/),
  fc.stringMatching(/^(x|h)--[-a-f0-9_]{0,64}$/),
)

test('every name fits on the wire, and comes back or is cut', () => {
  fc.assert(
    fc.property(anyName, (name) => {
      const wire = toWireName(name)
      expect(wire).toMatch(wireForm)
      expect(fromWireName(wire) ?? name).toBe(name)
      if (!wire.startsWith('h--')) expect(fromWireName(wire)).toBe(name)
    }),
    { numRuns: 2_000 },
  )
})

test('two names never share one', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyName, { minLength: 2, maxLength: 40 }), (names) => {
      expect(new Set(names.map(toWireName)).size).toBe(names.length)
    }),
    { numRuns: 500 },
  )
  // What one name is escaped to, taken as a name.
  expect(toWireName(toWireName('a.b'))).not.toBe(toWireName('a.b'))
})

test.each([
  ['read_file', 'read_file'],
  ['server/tool_name', 'x--server-2f-tool_name'],
  ['wetter für alle', 'x--wetter-20-f-fc-r-20-alle'],
  ['x--a', 'x--x-2d--2d-a'],
  ['a'.repeat(64), 'a'.repeat(64)],
])('%s is %s', (name, wire) => {
  expect(toWireName(name)).toBe(wire)
  expect(fromWireName(wire)).toBe(name)
})

test('a name that is too long is cut, and ends in a hash of all of it', () => {
  const [one, other] = [toWireName(`${'long/'.repeat(30)}1`), toWireName(`${'long/'.repeat(30)}2`)]
  expect(one).toMatch(/^h--long-2f-long.*-[0-9a-f]{24}$/)
  expect([one.length, one === other, fromWireName(one)]).toEqual([64, false, undefined])
})

test.each(['', 'a b', 'x--', 'x--a-', 'x--a-2E-', 'x--a-110000-', 'x--abc', 'x'.repeat(65)])('%j is no wire name', (wire) =>
  expect(fromWireName(wire)).toBeUndefined(),
)
