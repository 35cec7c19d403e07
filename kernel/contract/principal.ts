/** Who is calling, and how the gateway learns it. */
import type { RouteGroup } from './access.ts'
import type { Arrival } from './door.ts'
import { defineService, defineSlot } from './refs.ts'

/** The kinds of caller. */
export type PrincipalKind = 'user' | 'agent' | 'service' | 'device' | 'anonymous'

/** Who is calling. Every request has one. */
export interface Principal {
  readonly id: string
  readonly kind: PrincipalKind
  readonly scopes: readonly string[]
  readonly groups: readonly string[]
  /** `<method>:<credential id>`: what revoking names. */
  readonly via: string
}

/** The principal of a request without a credential. */
export const anonymous: Principal = Object.freeze({ id: 'anonymous', kind: 'anonymous', scopes: [], groups: [], via: 'none' })

/** True if the principal has the scope, itself or by `admin`. */
export function hasScope(principal: Principal, scope: string): boolean {
  return principal.scopes.includes(scope) || principal.scopes.includes('admin')
}

/** What an auth method is given. `token` is the presented bearer (or X-Api-Key), `ticket` the one-time ticket of the query. */
export interface AuthAttempt {
  readonly token?: string
  readonly ticket?: string
  /** The token was good a while ago: whatever it is now, it is no guess. */
  readonly known: boolean
  readonly request: Request
  /** The client's address; empty when there is none (in-process calls). */
  readonly address: string
  /** Bound to loopback, no trusted proxy, no Forwarded header. */
  readonly loopback: boolean
}

/**
 * A verified caller. The kernel may reuse it for the same token until `cacheUntil` (ms since the epoch), at most a minute, and never when the method looked at
 * `address` or `loopback`. Give it only when the token alone decides.
 */
export interface AuthResult {
  readonly principal: Principal
  readonly cacheUntil?: number
  /** Called for each stream or socket this request holds, with what ends it; returns what is called when it ended. A result that has it is never cached. */
  held?(close: () => void): () => void
}

/** One way to authenticate: null = not mine, ask the next; a thrown `GatewayError` ends it. */
export interface AuthMethod {
  readonly name: string
  authenticate(attempt: AuthAttempt, signal: AbortSignal): Promise<AuthResult | null> | AuthResult | null
}

/** Read by the gatekeeper, in `order`. A plugin that adds to it fails closed: the gateway does not start without it. */
export const authMethods = defineSlot<AuthMethod>('authMethods')

/** Where a request wants to enter: a route, or a socket. */
export interface Entrance {
  readonly group: Pick<RouteGroup, 'access' | 'options'>
  readonly socket?: object
}

/** Asks who is calling wherever a route wants to know. */
export interface Gatekeeper {
  /**
   * Sets `principal` and `auth`, or throws 400, 401, 403 or 429; of an open or signed group it asks nothing. A promise only when a credential has to be verified.
   * Streams and sockets may show a ticket in the query, with `allowQueryToken` a token.
   */
  admit(arrival: Arrival, entrance: Entrance, allowQueryToken: boolean): void | Promise<void>
  /** Forgets a credential, also when it is being verified. */
  revoke(via: string): void
}

/** Asked by the kernel. Without it nobody is let in but where a route is open or checks a signature itself. */
export const gatekeeper = defineService<Gatekeeper>('gatekeeper')
