/** Addresses and CIDR blocks, as `gateway.trustedProxies` lists them. */
import { isIP } from 'node:net'

/** Of `192.0.2.7`, `10.0.0.0/8`, `::1`: where it begins, and how many bits count. Undefined when the text is neither an address nor a CIDR block. */
export function toNetwork(text: string): { address: string; bits: number; family: 'ipv4' | 'ipv6' } | undefined {
  const [, address = '', size] = /^([\da-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? []
  const [family, most] = isIP(address) === 6 ? (['ipv6', 128] as const) : (['ipv4', 32] as const)
  return isIP(address) === 0 || Number(size) > most ? undefined : { address, bits: Number(size ?? most), family }
}
