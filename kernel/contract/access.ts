/** Route groups: the builder of a few routes, bound to who may call them. */
import type { AnyElysia, Elysia } from 'elysia'
import type { ScopeRef } from './refs.ts'
import type { RequestContext } from './request.ts'

/** What every handler gets beside Elysia's own context. (A type, not an interface: Elysia wants an index signature.) */
export type RequestInfo = Pick<RequestContext, 'principal' | 'requestId' | 'signal' | 'loopback'>

/** The Elysia shell the kernel makes: errors mapped, `RequestInfo` in each handler, JSON the only parser unless a route asks for another. */
export type RouteApp = Elysia<'', { decorator: RequestInfo; store: {}; derive: {}; resolve: {} }>

/** Adds routes to the shell. It is called once, at set-up. */
export type RouteBuilder = (app: RouteApp) => AnyElysia

/** What a dialect is given to answer an error in its protocol's own shape. */
export interface DialectError {
  readonly status: number
  readonly code: string
  readonly type: string
  readonly message: string
  readonly param?: string
  readonly details?: unknown
  readonly requestId: string
}

/** How a group answers errors, when its protocol defines that: returns the JSON body. */
export type Dialect = (error: DialectError) => unknown

/** Options of a group. */
export interface RouteGroupOptions {
  /** Milliseconds to the head of the answer; default 30,000. */
  deadline?: number
  /** Bytes; at most the gateway's own limit. Default: of a route that takes JSON 1 MB, else the gateway's. */
  bodyLimit?: number
  dialect?: Dialect
  /** Its answers are long-lived streams: no idle time-out, HEAD is answered without running the handler, and one that breaks is reported whatever its type. */
  stream?: boolean
  /** Adds to `WWW-Authenticate` on 401, e.g. `resource_metadata="…"`. */
  challenge?: (request: Request) => string
  /**
   * What it lets in is recorded by `audit:event`, unless it only reads (GET, HEAD, OPTIONS); groups guarded by `admin` alone always are.
   * Of an open group: what succeeds, or anyone could fill the log.
   */
  audit?: boolean
  /** Exempt from the limits per address and per principal (health probes). */
  unlimited?: boolean
}

/** Who may call: design §4. */
export type Access =
  | { readonly kind: 'open' }
  | { readonly kind: 'optional'; readonly scopes: readonly ScopeRef[] }
  | { readonly kind: 'guard'; readonly scopes: readonly ScopeRef[] }
  | { readonly kind: 'signed' }

/** A group of routes with one access. */
export interface RouteGroup {
  readonly kind: 'routes'
  readonly access: Access
  readonly build: RouteBuilder
  readonly options: RouteGroupOptions
}

const group = (access: Access, build: RouteBuilder, options: RouteGroupOptions = {}): RouteGroup => ({ kind: 'routes', access, build, options })
const list = (scopes: ScopeRef | readonly ScopeRef[]): readonly ScopeRef[] => ('kind' in scopes ? [scopes] : scopes)

/** Anyone may call; a credential is not even looked at. */
export function open(build: RouteBuilder, options?: RouteGroupOptions): RouteGroup {
  return group({ kind: 'open' }, build, options)
}

/** No credential → anonymous; a bad one → 401; a good one without the scope → 403. The handler decides what anonymous may see. */
export function optional(scopes: ScopeRef | readonly ScopeRef[], build: RouteBuilder, options?: RouteGroupOptions): RouteGroup {
  return group({ kind: 'optional', scopes: list(scopes) }, build, options)
}

/** Only principals with one of the scopes; `admin` implies every scope. */
export function guard(scopes: ScopeRef | readonly ScopeRef[], build: RouteBuilder, options?: RouteGroupOptions): RouteGroup {
  return group({ kind: 'guard', scopes: list(scopes) }, build, options)
}

/** The plugin verifies the raw bytes itself: nothing is parsed unless a route asks. */
export function signed(build: RouteBuilder, options?: RouteGroupOptions): RouteGroup {
  return group({ kind: 'signed' }, build, options)
}
