import { expect, test } from 'bun:test'
import { isForwarded, isLoopbackAddress } from './address.ts'

const headers = (init: Record<string, string>) => new Headers(init)

test('loopback addresses, and headers that end being loopback', () => {
  expect(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', ''].map(isLoopbackAddress)).toEqual([true, true, true, true, true])
  expect(['10.0.0.1', 'unknown', '1127.0.0.1', '2001:db8::1'].map(isLoopbackAddress)).toEqual([false, false, false, false])
  for (const name of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'x-real-ip'])
    expect(isForwarded(headers({ [name]: 'x' }))).toBe(true)
  expect(isForwarded(headers({ host: 'a' }))).toBe(false)
})
