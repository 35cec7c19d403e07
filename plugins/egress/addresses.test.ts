import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { carriedBy, isWithin, kindOf, parseAddress, parseBlock } from './addresses.ts'

const read = (text: string) => {
  const address = parseAddress(text)
  if (!address) throw new Error(`${text} is no address`)
  return address
}
const kinds = (text: string) => carriedBy(read(text)).map(kindOf)

test.each([
  ['8.8.8.8', [null]],
  ['9.255.255.255', [null]],
  ['11.0.0.0', [null]],
  ['100.63.255.255', [null]],
  ['100.128.0.0', [null]],
  ['172.15.255.255', [null]],
  ['172.32.0.0', [null]],
  ['192.167.255.255', [null]],
  ['198.17.255.255', [null]],
  ['198.20.0.0', [null]],
  ['223.255.255.255', [null]],
  ['10.0.0.0', ['private']],
  ['100.127.255.255', ['shared']],
  ['198.19.255.255', ['benchmarking']],
  ['224.0.0.0', ['multicast']],
  ['239.255.255.255', ['multicast']],
  ['240.0.0.0', ['reserved']],
  ['255.255.255.255', ['broadcast']],
  ['2606:4700::1111', [null]],
  ['2a00:1450:4001:80b::200e', [null]],
  ['2001:200::', [null]],
  ['2001:1ff:ffff::', ['reserved']],
  ['2001:2::1', ['benchmarking']],
  ['3ffe::1', [null]],
  ['3fff:fff::1', ['documentation']],
  ['1fff::1', ['reserved']],
  ['4000::', ['reserved']],
  ['100::1', ['reserved']],
  ['5f00::1', ['reserved']],
  ['::', ['unspecified']],
  ['::1', ['loopback']],
  ['::2', ['unspecified']],
  ['fe80::1%eth0', ['link-local']],
  ['::ffff:8.8.8.8', [null]],
  ['64:ff9b::8.8.8.8', [null]],
  ['64:ff9b::127.0.0.1', ['loopback']],
  ['64:ff9b:1::8.8.8.8', [null]],
  ['64:ff9b:1::a00:1', ['private']],
  ['64:ff9b:2::8.8.8.8', ['reserved']],
  ['2002:808:808::1', [null]],
  ['2002:c0a8:1::1', ['private']],
  ['2001:0:808:808::f7f7:f7f7', [null, null]],
  ['2001:0:808:808::8080:fefe', [null, 'loopback']],
  ['2001:0:a9fe:a9fe::f7f7:f7f7', ['metadata', null]],
  ['2606:4700::200:5efe:8.8.8.8', [null]],
  ['2606:4700::200:5efe:7f00:1', ['loopback']],
] as const)('%s is for %j', (text, expected) => expect(kinds(text)).toEqual([...expected]))

test('what is no address is none', () => {
  for (const text of ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '0x7f.0.0.1', '1.2.3.4/8', ':::', '1::2::3', 'g::', '[::1]', 'localhost', '%eth0'])
    expect([text, parseAddress(text)]).toEqual([text, null])
})

test('blocks hold what shares their first bits', () => {
  const holds = (block: string, address: string) => {
    const parsed = parseBlock(block)
    return parsed && isWithin(read(address), parsed)
  }
  expect(holds('10.0.0.0/8', '10.255.0.1')).toBe(true)
  expect(holds('10.1.2.3/8', '10.255.0.1')).toBe(true)
  expect(holds('10.0.0.0/8', '11.0.0.0')).toBe(false)
  expect(holds('10.0.0.1', '10.0.0.1')).toBe(true)
  expect(holds('10.0.0.1', '10.0.0.2')).toBe(false)
  expect(holds('0.0.0.0/0', '8.8.8.8')).toBe(true)
  expect(holds('0.0.0.0/0', '::808:808')).toBe(false)
  expect(holds('fd00::/8', 'fd12::1')).toBe(true)
  expect(holds('::/0', '2606:4700::1')).toBe(true)
  for (const text of ['', '10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/a', '10.0.0.0/8/8', 'fe80::1%eth0', '10/8', 'host/8'])
    expect([text, parseBlock(text)]).toEqual([text, null])
})

test('every spelling of an IPv6 address is the same number', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }), (groups) => {
      const full = groups.map((group) => group.toString(16).padStart(4, '0')).join(':')
      const short = new URL(`http://[${full}]/`).hostname.slice(1, -1)
      const [high = 0, low = 0] = groups.slice(6)
      const dotted = `${full.slice(0, 30)}${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
      const value = BigInt(`0x${full.replaceAll(':', '')}`)
      for (const text of [full, short, dotted, full.toUpperCase()]) expect(read(text)).toEqual({ bits: 128, value })
    }),
  )
})
