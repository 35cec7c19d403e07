/** Whose request it is that trusted proxies forwarded. */
import { BlockList, isIP } from 'node:net'
import { type Problem, type ProxySettings, plainAddress } from 'portico'

/** Of `192.0.2.7`, `10.0.0.0/8`, `::1`: where it begins, and how many bits count. Undefined when the text is neither an address nor a CIDR block. */
function toNetwork(text: string): { address: string; bits: number; family: 'ipv4' | 'ipv6' } | undefined {
  const [, address = '', size] = /^([\da-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? []
  const [family, most] = isIP(address) === 6 ? (['ipv6', 128] as const) : (['ipv4', 32] as const)
  return isIP(address) === 0 || Number(size) > most ? undefined : { address, bits: Number(size ?? most), family }
}

/** Entries of `gateway.trustedProxies` that are no networks. */
export function findStrangers({ trustedProxies }: ProxySettings): Problem[] {
  const expected = 'an address such as 192.0.2.7, or a CIDR block such as 10.0.0.0/8'
  return trustedProxies.flatMap((entry, index) => {
    // One that is no string has been named already.
    if (entry === undefined || toNetwork(entry)) return []
    return [{ where: 'gateway', key: `trustedProxies[${index}]`, what: 'is no network', found: JSON.stringify(entry), expected }]
  })
}

/** Gives the rightmost address that is no trusted proxy, of the header that counts (Forwarded: RFC 7239); the peer's when the peer is not trusted. */
export function trust({ trustedProxies, forwardedHeader: header }: ProxySettings): (peer: string, headers: Headers) => string {
  const blocks = new BlockList()
  for (const { address, bits, family } of trustedProxies.flatMap((entry) => toNetwork(entry) ?? [])) blocks.addSubnet(address, bits, family)
  const isTrusted = (address: string) => isIP(address) !== 0 && blocks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
  return (peer, headers) => {
    let address = plainAddress(peer)
    if (!isTrusted(address)) return address
    // A proxy passes on what a client wrote into the other one.
    const written = headers.get(header) ?? ''
    const hops = header === 'forwarded' ? [...written.matchAll(/for="?([^";,]+)"?/gi)].map((match) => match[1] ?? '') : written.split(',')
    for (const hop of hops.reverse()) {
      const next = plainAddress(hop.trim())
      if (isIP(next) === 0) break
      address = next
      if (!isTrusted(address)) break
    }
    return address
  }
}
