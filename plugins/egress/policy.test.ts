import { expect, test } from 'bun:test'
import { egressSettings } from '../../test/fixtures/egress.ts'
import type { EgressConfig } from './config.ts'
import { createPolicy } from './policy.ts'

const reasons = (config: Partial<EgressConfig>, url: string, addresses: readonly string[]) => {
  const policy = createPolicy(egressSettings(config))
  const parsed = new URL(url)
  return policy.checkUrl(parsed, 'it')?.reason ?? policy.checkAddresses(parsed, addresses, 'it')?.kind ?? 'asked'
}

test('a block opens what it holds, however it is carried, and nothing beside it', () => {
  const allowPrivate = ['10.0.0.0/8', 'fd00::/8']
  for (const address of ['10.0.0.1', '::ffff:10.0.0.1', '64:ff9b::10.0.0.1', 'fd12::1'])
    expect([address, reasons({ allowPrivate }, 'http://x.example', [address])]).toEqual([address, 'asked'])
  for (const address of ['127.0.0.1', '192.168.0.1', 'fc00::1', '::1', '169.254.169.254'])
    expect([address, reasons({ allowPrivate }, 'http://x.example', [address])]).not.toEqual([address, 'asked'])
  expect(reasons({ allowPrivate }, 'http://x.example', ['10.0.0.1', '192.168.0.1'])).toBe('private')
})

test('a block may open metadata; a wider one does too, since somebody wrote it', () => {
  for (const entry of ['169.254.169.254', '169.254.169.254/32', '0.0.0.0/0'])
    expect(reasons({ allowPrivate: [entry] }, 'http://x.example', ['169.254.169.254'])).toBe('asked')
})

test('a name opens networks of one’s own, and nothing that no server of one’s own has', () => {
  const allowPrivate = ['internal.example']
  for (const address of ['10.0.0.1', '192.168.0.1', '127.0.0.1', '100.64.0.1', 'fd00::1', '::1', '8.8.8.8'])
    expect([address, reasons({ allowPrivate }, 'http://internal.example', [address])]).toEqual([address, 'asked'])
  for (const address of ['169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '0.0.0.0', '224.0.0.1', 'fe80::1', '255.255.255.255', '240.0.0.1'])
    expect([address, reasons({ allowPrivate }, 'http://internal.example', [address])]).not.toEqual([address, 'asked'])
})

test('a name is that name, in any letters and with a dot behind, and none below or above it', () => {
  const allowPrivate = ['Internal.example', 'bücher.example', 'db']
  for (const url of ['http://internal.example', 'http://INTERNAL.EXAMPLE.', 'http://xn--bcher-kva.example', 'http://db'])
    expect([url, reasons({ allowPrivate }, url, ['10.0.0.1'])]).toEqual([url, 'asked'])
  for (const url of ['http://a.internal.example', 'http://example', 'http://internal.example.evil', 'http://db.evil'])
    expect([url, reasons({ allowPrivate }, url, ['10.0.0.1'])]).toEqual([url, 'private'])
})

test('an entry in an odd spelling is the address it means; one that means nothing is an error of the start', () => {
  expect(reasons({ allowPrivate: ['127.1'] }, 'http://x.example', ['127.0.0.1'])).toBe('asked')
  expect(reasons({ allowPrivate: ['127.1'] }, 'http://x.example', ['127.0.0.2'])).toBe('loopback')
  for (const entry of [
    '10.0.0.0/33',
    'http://x.example',
    'x.example:80',
    'x.example/path',
    'user@x.example',
    '*.example',
    'a b',
    '[::1]',
    '1.2.3.4.5',
    'fe80::1%eth0',
  ])
    expect(() => createPolicy(egressSettings({ allowPrivate: [entry] }))).toThrow(`[plugin egress] allowPrivate: ${JSON.stringify(entry)}`)
})

test('ports: all but the dangerous ones, or only those that are named', () => {
  const at = (config: Partial<EgressConfig>, port: number) => reasons(config, `http://x.example:${port}`, ['8.8.8.8'])
  for (const port of [80, 443, 3000, 8080, 8443, 11434, 65535]) expect([port, at({}, port)]).toEqual([port, 'asked'])
  for (const port of [0, 22, 25, 6000, 6379, 11211, 27017]) expect([port, at({}, port)]).toEqual([port, 'port'])
  expect([80, 443, 8080, 6379].map((port) => at({ allowedPorts: [443, 6379] }, port))).toEqual(['port', 'asked', 'port', 'asked'])
  expect([80, 443, 6379].map((port) => at({ blockedPorts: [80] }, port))).toEqual(['port', 'asked', 'asked'])
  expect(reasons({ allowedPorts: [443] }, 'https://x.example', ['8.8.8.8'])).toBe('asked')
})

test('https only', () => {
  expect(reasons({ httpsOnly: true }, 'http://x.example', ['8.8.8.8'])).toBe('scheme')
  expect(reasons({ httpsOnly: true }, 'https://x.example', ['8.8.8.8'])).toBe('asked')
})
