/** Whose request it is, by address: the peer, or what trusted proxies say of it. */
import { BlockList, isIP } from 'node:net'
import { type GatewayConfig, toNetwork } from '../config/index.ts'

/** What proxies add: the standards' own (RFC 9110 §7.6.3, RFC 7239) and the usual others. */
const forwardedBy = [
  ...['forwarded', 'via', 'x-real-ip', 'x-client-ip', 'true-client-ip', 'cf-connecting-ip', 'fly-client-ip'],
  ...['for', 'host', 'proto', 'port', 'server', 'prefix'].map((what) => `x-forwarded-${what}`),
]

/** True if any header says that a proxy forwarded the request. One that adds none cannot be told from a client. */
export function isForwarded(headers: Headers): boolean {
  return forwardedBy.some((name) => headers.has(name))
}

/** True for 127.0.0.0/8, ::1 and `''` (in process). */
export function isLoopbackAddress(address: string): boolean {
  return address === '' || address === '::1' || /^(::ffff:)?127\./.test(address)
}

/** By `gateway.trustedProxies` (addresses and CIDR blocks; the config was judged); null when the list is empty. */
export function proxyTrust({ trustedProxies: list, forwardedHeader: header }: Pick<GatewayConfig, 'trustedProxies' | 'forwardedHeader'>): ProxyTrust | null {
  if (list.length === 0) return null
  const blocks = new BlockList()
  for (const { address, bits, family } of list.flatMap((entry) => toNetwork(entry) ?? [])) blocks.addSubnet(address, bits, family)
  const isTrusted = (address: string) => isIP(address) !== 0 && blocks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
  return { isTrusted, header }
}

/** How proxies are believed. */
export interface ProxyTrust {
  isTrusted(address: string): boolean
  /** `gateway.forwardedHeader`: a proxy passes on what a client wrote into the other one. */
  readonly header: GatewayConfig['forwardedHeader']
}

/** The rightmost address that is no trusted proxy, of the header that counts (Forwarded: RFC 7239); the peer's when the peer is not trusted. */
export function clientAddress(peer: string, headers: Headers, trust: ProxyTrust | null): string {
  let address = plainAddress(peer)
  if (!trust?.isTrusted(address)) return address
  const written = headers.get(trust.header) ?? ''
  const hops = trust.header === 'forwarded' ? [...written.matchAll(/for="?([^";,]+)"?/gi)].map((match) => match[1] ?? '') : written.split(',')
  for (const hop of hops.reverse()) {
    const next = plainAddress(hop.trim())
    if (isIP(next) === 0) break
    address = next
    if (!trust.isTrusted(address)) break
  }
  return address
}

function plainAddress(text: string): string {
  const bare = text.startsWith('[') ? text.slice(1, text.indexOf(']')) : text.replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1')
  return bare.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '')
}
