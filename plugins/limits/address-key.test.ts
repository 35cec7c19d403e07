import { expect, test } from 'bun:test'
import { addressKey } from './address-key.ts'

test('an IPv6 client is counted by its /64', () => {
  expect(addressKey('1.2.3.4')).toBe('1.2.3.4')
  expect(addressKey('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2')
  expect(addressKey('2001:db8:1:2::9')).toBe('2001:db8:1:2')
  expect(addressKey('2001:db8::1')).toBe('2001:db8:0:0')
  expect(addressKey('::1')).toBe('0:0:0:0')
})
