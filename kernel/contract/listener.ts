/** What the listener asks plugins for: a certificate, and whose a request is that a proxy forwarded. */
import { defineService } from './refs.ts'

/** What `gateway.tls` names, as full paths. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
}

/** A certificate with those of its authorities, and its key: PEM. */
export interface TlsPair {
  readonly cert: string
  readonly key: string
}

/** Reads certificates, and sees when they are renewed. */
export interface Certificates {
  /** The pair; `onRenewed` hears of each that replaces it, until the plugin ends. */
  open(files: TlsFiles, onRenewed: (pair: TlsPair) => Promise<void>): TlsPair
}

/** Asked by the kernel when `gateway.tls` is set: without it the gateway does not start then. */
export const certificates = defineService<Certificates>('certificates')

/** Knows trusted proxies. */
export interface Proxies {
  /** Of a request from that peer, the client's address as the proxies tell it. */
  trust(settings: ProxySettings): (peer: string, headers: Headers) => string
}

/** `gateway.trustedProxies` (addresses and CIDR blocks) and `gateway.forwardedHeader`, the one header that they set. */
export interface ProxySettings {
  readonly trustedProxies: readonly string[]
  readonly forwardedHeader: 'x-forwarded-for' | 'forwarded'
}

/** Asked by the kernel when there are trusted proxies: without it nobody is believed. */
export const proxies = defineService<Proxies>('proxies')

/** An address without port, brackets, and the prefix of IPv4 in IPv6. */
export function plainAddress(text: string): string {
  const bare = text.startsWith('[') ? text.slice(1, text.indexOf(']')) : text.replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1')
  return bare.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '')
}
