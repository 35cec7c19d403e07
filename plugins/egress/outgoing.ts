/** The request as it goes out, and what a redirect makes of it (RFC 9110 §15.4; the Fetch standard's HTTP-redirect fetch). Asks no network. */
import { GatewayError } from 'portico'
import type { EgressInit } from './contract.ts'
import { upstreamError } from './refusal.ts'

/** A request for one address. */
export interface Outgoing {
  readonly url: URL
  readonly method: string
  readonly headers: Headers
  readonly body: Uint8Array | ReadableStream<Uint8Array> | undefined
}

const maxUrl = 8_192
/** What belongs to the connection (RFC 9110 §7.6.1), to its framing, or to the address: ours to say. */
const ownHeaders = 'host connection keep-alive proxy-connection proxy-authorization te trailer transfer-encoding upgrade expect content-length'.split(' ')
/** What describes a body: gone with it. */
const bodyHeaders = 'content-encoding content-language content-location content-type'.split(' ')
/** What another origin may see too. Everything else may be a credential: there are more names for one than can be listed. */
const harmlessHeaders = new Set([
  ...bodyHeaders,
  ...'accept accept-encoding accept-language cache-control if-modified-since if-none-match range user-agent'.split(' '),
])

/** The URL; throws `invalid_request`. Of what else it may be the policy judges. */
export function toUrl(target: string | URL): URL {
  const text = String(target)
  if (text.length > maxUrl) throw invalid(`The address is longer than ${maxUrl} characters.`)
  if (!URL.canParse(text)) throw invalid('The address is no URL; expected e.g. https://example.com/path.')
  return new URL(text)
}

/** The request a caller asks for; throws `invalid_request`. */
export function toOutgoing(url: URL, init: EgressInit): Outgoing {
  const method = (init.method ?? 'GET').toUpperCase()
  if (!/^[A-Z0-9!#$%&'*+.^_`|~-]+$/.test(method) || /^(CONNECT|TRACE|TRACK)$/.test(method)) {
    throw invalid(`"${method.slice(0, 40)}" is no method that is sent.`)
  }
  if (init.body !== undefined && (method === 'GET' || method === 'HEAD')) throw invalid(`${method} takes no body.`)
  const headers = toHeaders(init.headers)
  for (const name of ownHeaders) headers.delete(name)
  const presets = { accept: '*/*', 'accept-encoding': headers.has('range') ? 'identity' : 'gzip, deflate, br', 'user-agent': 'portico' }
  for (const [name, value] of Object.entries(presets)) if (!headers.has(name)) headers.set(name, value)
  return { url, method, headers, body: typeof init.body === 'string' ? new TextEncoder().encode(init.body) : init.body }
}

/** Where the answer redirects to; null when it does not. */
export function redirectOf(status: number, location: string | undefined): string | null {
  if (location === undefined || ![301, 302, 303, 307, 308].includes(status)) return null
  // Headers come as Latin-1; what is beyond ASCII in an address was UTF-8.
  return Buffer.from(location, 'latin1').toString('utf8')
}

/** The request that follows the redirect; throws `upstream_error` when none can. */
export function redirected({ url: from, method, headers: before, body }: Outgoing, status: number, location: string): Outgoing {
  if (location.length > maxUrl || !URL.canParse(location, from)) throw upstreamError('The server redirects to what is no address.')
  const url = new URL(location, from)
  const becomesGet = status === 303 ? method !== 'GET' && method !== 'HEAD' : status < 303 && method === 'POST'
  if (!becomesGet && body instanceof ReadableStream) {
    throw upstreamError('The server redirects and wants the body again, which is a stream and gone; send to the final address.')
  }
  const headers = new Headers(before)
  if (url.origin !== from.origin) for (const name of before.keys()) if (!harmlessHeaders.has(name)) headers.delete(name)
  if (!becomesGet) return { url, method, headers, body }
  for (const name of bodyHeaders) headers.delete(name)
  return { url, method: 'GET', headers, body: undefined }
}

function toHeaders(given: HeadersInit | undefined): Headers {
  try {
    return new Headers(given)
  } catch (error) {
    throw invalid('A header’s name or value has characters that cannot be sent.', error)
  }
}

function invalid(message: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_request', message, { cause })
}
