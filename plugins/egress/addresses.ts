/** Addresses as numbers, and what each is for: the special-purpose registries of IANA (RFC 6890), and where IPv6 carries IPv4. Knows no config. */
import { isIP } from 'node:net'

/** An IPv4 (32 bits) or IPv6 (128 bits) address. */
export interface Address {
  readonly bits: 32 | 128
  readonly value: bigint
}

/** All addresses that share the first `size` bits. */
export interface Block extends Address {
  readonly size: number
}

/** What an address that is not public is for. */
export type AddressKind =
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'shared'
  | 'link-local'
  | 'site-local'
  | 'metadata'
  | 'documentation'
  | 'benchmarking'
  | 'multicast'
  | 'broadcast'
  | 'reserved'

/** Reads `127.0.0.1`, `::1`, `fe80::1%eth0`; null for anything else. */
export function parseAddress(text: string): Address | null {
  // A zone says which interface, not which address.
  const [bare = ''] = text.split('%', 1)
  const version = isIP(bare)
  if (version === 0) return null
  return version === 4 ? { bits: 32, value: fromDotted(bare) } : { bits: 128, value: fromColons(bare) }
}

/** Reads an address, or a CIDR block such as `10.0.0.0/8`; null for anything else. */
export function parseBlock(text: string): Block | null {
  const parts = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text)
  const address = parseAddress(parts?.[1] ?? '')
  if (!parts || !address) return null
  const size = parts[2] === undefined ? address.bits : Number(parts[2])
  return size <= address.bits ? { ...address, size } : null
}

/** True if the block holds the address. */
export function isWithin({ bits, value }: Address, block: Block): boolean {
  return bits === block.bits && (value ^ block.value) >> BigInt(bits - block.size) === 0n
}

/** What the address is for; null if it is public. One that carries others is judged by them: see `carriedBy`. */
export function kindOf(address: Address): AddressKind | null {
  for (const [kind, blocks] of kinds) if (blocks.some((block) => isWithin(address, block))) return kind
  return address.bits === 32 || isWithin(address, globalUnicast) ? null : 'reserved'
}

/** The addresses that packets to this one may end at: the IPv4 addresses in it, else itself. */
export function carriedBy(address: Address): readonly Address[] {
  if (address.bits === 32) return [address]
  const { value } = address
  const read = value < 2n ? undefined : carriers.find(([block]) => isWithin(address, block))?.[1]
  const carried = read?.(value) ?? (isIsatap(value) ? [value] : undefined)
  return carried?.map((inner): Address => ({ bits: 32, value: inner & 0xffffffffn })) ?? [address]
}

const block = (text: string): Block => {
  const parsed = parseBlock(text)
  if (!parsed) throw new TypeError(`${text} is no block`)
  return parsed
}
const blocks = (text: string): readonly Block[] => text.split(' ').map(block)

/** In the order they are looked at: the special before the general. */
const kinds: readonly (readonly [AddressKind, readonly Block[]])[] = [
  // What clouds tell their machines: of most, AWS and Google over IPv6, Alibaba, Azure.
  ['metadata', blocks('169.254.169.254 fd00:ec2::254 fd20:ce::254 100.100.100.200 168.63.129.16')],
  ['unspecified', blocks('0.0.0.0/8 ::')],
  ['loopback', blocks('127.0.0.0/8 ::1')],
  ['private', blocks('10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7')],
  ['shared', blocks('100.64.0.0/10')],
  ['link-local', blocks('169.254.0.0/16 fe80::/10')],
  ['site-local', blocks('fec0::/10')],
  ['documentation', blocks('192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20')],
  ['benchmarking', blocks('198.18.0.0/15 2001:2::/48')],
  ['multicast', blocks('224.0.0.0/4 ff00::/8')],
  ['broadcast', blocks('255.255.255.255')],
  // Protocol assignments, the relays of 6to4, and what has no use yet.
  ['reserved', blocks('192.0.0.0/24 192.88.99.0/24 240.0.0.0/4 2001::/23')],
]
/** The only part of IPv6 that is given out to the public. */
const globalUnicast = block('2000::/3')

/** Where IPv6 carries IPv4, and how it is read out (the last 32 bits count). */
const carriers: readonly (readonly [Block, (value: bigint) => readonly bigint[]])[] = [
  [block('::/96'), (value) => [value]], // IPv4-compatible, RFC 4291 §2.5.5.1
  [block('::ffff:0:0/96'), (value) => [value]], // IPv4-mapped, §2.5.5.2
  [block('::ffff:0:0:0/96'), (value) => [value]], // IPv4-translated, RFC 2765
  [block('64:ff9b::/96'), (value) => [value]], // NAT64, RFC 6052
  [block('64:ff9b:1::/48'), fromLocalNat64], // RFC 8215
  [block('2002::/16'), (value) => [value >> 80n]], // 6to4, RFC 3056
  [block('2001::/32'), (value) => [value >> 64n, ~value]], // Teredo, RFC 4380: the server, and the client, inverted
]

/** A network may cut its local NAT64 block at any of the lengths of RFC 6052 §2.2; nobody outside knows which. One that would give 0.x.x.x is not the one. */
function fromLocalNat64(value: bigint): readonly bigint[] {
  const at = (shift: bigint, bits: bigint) => (value >> shift) & ((1n << bits) - 1n)
  const shorter = [(at(64n, 16n) << 16n) | at(40n, 16n), (at(64n, 8n) << 24n) | at(32n, 24n), at(24n, 32n)]
  return [value, ...shorter.filter((candidate) => candidate >> 24n !== 0n)]
}

/** RFC 5214 §6.1: the interface's part is 0000:5efe or 0200:5efe, then IPv4. */
function isIsatap(value: bigint): boolean {
  return ((value >> 32n) & 0xfdffffffn) === 0x5efen
}

function fromDotted(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n)
}

function fromColons(text: string): bigint {
  const dotted = /[^:]*\..*$/.exec(text)?.[0]
  const plain = dotted === undefined ? text : `${text.slice(0, -dotted.length)}${toGroups(fromDotted(dotted))}`
  const [front = [], back] = plain.split('::').map((part) => (part === '' ? [] : part.split(':')))
  const groups = back === undefined ? front : [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back]
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n)
}

function toGroups(value: bigint): string {
  return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`
}
