import { expect, test } from 'bun:test'
import { createMessageWindow } from './contract.ts'

test('so many messages are taken in any window, and the wait that is told is the right one', () => {
  const clock = { at: 1_000, now: () => clock.at }
  const window = createMessageWindow({ maxMessages: 2, windowMs: 100 }, clock)
  expect(window.take()).toBe(0)
  clock.at += 30
  expect(window.take()).toBe(0)
  clock.at += 30
  expect(window.take()).toBe(40)
  clock.at += 39
  expect(window.take()).toBe(1)
  clock.at += 1
  expect(window.take()).toBe(0)
  expect(window.take()).toBe(30)
})
