/** What other plugins may know of egress: the service through which addresses from outside are fetched. */
import { defineService } from 'portico'

/** What a call may say. Limits are the config's unless given here; `Infinity` lifts one, e.g. for a stream that its caller ends by the signal. */
export interface EgressInit {
  /** Default GET. CONNECT, TRACE and TRACK are refused. */
  readonly method?: string
  /** Host and the headers of the connection itself are left out, as by `fetch`. A body's `content-type` is the caller's to say. */
  readonly headers?: HeadersInit
  /** A stream is sent once: a redirect that wants it again (307, 308) is an error. */
  readonly body?: string | Uint8Array | ReadableStream<Uint8Array>
  readonly signal?: AbortSignal
  /** Who asks, for the log of a refusal: `webhook hook_1`. */
  readonly purpose?: string
  /** Redirects that are followed. With 0 an answer that redirects is returned as it is. */
  readonly maxRedirects?: number
  /** Bytes of the answer's body, as it is sent and as it is decompressed. */
  readonly maxBytes?: number
  /** ms for everything, redirects and the whole body included. */
  readonly timeoutMs?: number
  /** ms until there is a connection (name, TCP, TLS); for each redirect anew. */
  readonly connectTimeoutMs?: number
  /** ms from the request's last byte to the answer's head; for each redirect anew. */
  readonly headTimeoutMs?: number
}

/** The service `egress`. */
export interface Egress {
  /**
   * Fetches an address that came from outside. The host is resolved once, every address of it is checked, and the connection goes to one of those; redirects are
   * checked the same way. The answer's body is decompressed, counted, and read from the network only as fast as it is read here: read it to the end or cancel
   * it, which ends the connection. `url` and `redirected` of the answer are the last address's.
   *
   * Throws `invalid_request` (no URL, no such method), `address_not_allowed`, `rate_limit_exceeded`, `upstream_timeout`, `upstream_error`, or the signal's reason;
   * the body fails with the same.
   */
  fetch(url: string | URL, init?: EgressInit): Promise<Response>
  /** Resolves if the address may be fetched as things stand, else throws as `fetch` would. For when somebody enters one: `fetch` checks again. */
  check(url: string | URL, init?: Pick<EgressInit, 'signal' | 'purpose'>): Promise<void>
}

/** The ref of the service. */
export const egress = defineService<Egress>('egress')
