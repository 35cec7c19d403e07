/** The context of a request, for code that holds only a `Request`. */
import { GatewayError } from './errors.ts'
import type { Principal } from './principal.ts'

/** How a live connection behaves when the gateway stops: `events` ends at once, `work` may finish until the deadline. */
export type ConnectionKind = 'events' | 'work'

/** What the kernel knows of a request. */
export interface RequestContext {
  readonly requestId: string
  readonly principal: Principal
  /** The client's address by `gateway.trustedProxies`; empty in process. */
  readonly address: string
  /** Bound to loopback, no trusted proxy, no Forwarded header. */
  readonly loopback: boolean
  /** W3C Trace Context `traceparent`, if a well-formed one came in. */
  readonly traceparent?: string
  /** ms since the epoch. */
  readonly startedAt: number
  /** Headers to be added to the answer, whoever makes it. */
  answerHeaders?: Readonly<Record<string, string>>
  /** Aborted when the client leaves before the head, at the route's deadline, on revoke and at the stop. Lazy: reading it costs. */
  readonly signal: AbortSignal
  /** Aborts `signal`, also when the head is out: saves a controller of one's own. */
  abort(reason: unknown): void
  /** Bun: seconds of silence after which the connection is cut, 0 = never. Nothing on Deno. */
  idleTimeout(seconds: number): void
  /**
   * Registers a live stream of this request: `close` is called (once, with the reason) when its credential is revoked or the gateway stops. Returns the
   * release, to be called when the stream ended by itself. Throws 429 when the principal holds too many streams of kind `events`.
   */
  hold(kind: ConnectionKind, close: (reason: 'revoked' | 'stopping') => void): () => void
}

const key = Symbol.for('portico.context')

/** The context of a request that came through the gateway; throws for any other `Request`. */
export function contextOf(request: Request): RequestContext {
  const context = (request as { [key]?: RequestContext })[key]
  if (!context)
    throw new GatewayError('internal_error', 'contextOf was given a Request that did not come through the gateway; hand on the very object the handler got.')
  return context
}

/** For the kernel: binds a context to the object that is finally handed on. */
export function setContext(request: Request, context: RequestContext): void {
  ;(request as { [key]?: RequestContext })[key] = context
}
