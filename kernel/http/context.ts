/** What the kernel knows of one request, computed as late as possible. */
import { GatewayError } from '../contract/errors.ts'
import { type AuthResult, anonymous, type Principal } from '../contract/principal.ts'
import type { ConnectionKind, RequestContext } from '../contract/request.ts'
import type { RuntimePeer as Peer } from '../runtime/runtime.ts'
import { clientAddress, isForwarded, isLoopbackAddress } from './address.ts'
import type { Connections } from './connections.ts'
import type { LimitState } from './limiter.ts'
import type { Target } from './table.ts'

/** What contexts share. */
export interface ContextHost {
  readonly boundToLoopback: boolean
  readonly connections: Connections
  /** Null when no proxy is trusted. */
  readonly isTrustedProxy: ((address: string) => boolean) | null
}

const wellFormedId = /^[A-Za-z0-9._-]{1,128}$/
const wellFormedTrace = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

/** The context of one request. */
export class Context implements RequestContext {
  readonly host: ContextHost
  readonly request: Request
  readonly peer: Peer
  readonly url: string
  readonly startedAt: number
  readonly requestId: string
  /** Where the query begins in `url` (the `?`), -1 without one; and the path. Set by the door. */
  queryAt = -1
  path = ''
  principal: Principal = anonymous
  target: Target | undefined
  /** The origin that CORS answers, if it is not our own. */
  corsOrigin: string | undefined
  /** How the credential was verified, when it wants to know of held streams. */
  auth: AuthResult | undefined
  limit: LimitState | undefined
  /** What the handler threw. */
  failure: unknown
  /** Overrules the handler's answer: its body was over the limit. */
  verdict: GatewayError | undefined
  /** Set when its credential was revoked after it was let in; what it did before that is still answered. */
  revocation: GatewayError | undefined
  #address: string | undefined
  #loopback: boolean | undefined
  #abort: AbortController | undefined
  #unlink: (() => void) | undefined
  #unwatch: (() => void) | undefined
  #isDone = false

  constructor(host: ContextHost, request: Request, peer: Peer, startedAt: number) {
    this.host = host
    this.request = request
    this.peer = peer
    this.url = request.url
    this.startedAt = startedAt
    const given = request.headers.get('x-request-id')
    this.requestId = given !== null && wellFormedId.test(given) ? given : crypto.randomUUID()
  }

  get address(): string {
    this.#address ??= clientAddress(this.peer.address, this.request.headers, this.host.isTrustedProxy)
    return this.#address
  }

  get loopback(): boolean {
    this.#loopback ??= this.#isNear() && !isForwarded(this.request.headers)
    return this.#loopback
  }

  #isNear(): boolean {
    const { isLocal } = this.peer
    if (isLocal === undefined && this.peer.address === '') return true
    return this.host.boundToLoopback && this.host.isTrustedProxy === null && (isLocal ?? isLoopbackAddress(this.peer.address))
  }

  get traceparent(): string | undefined {
    const given = this.request.headers.get('traceparent')
    return given !== null && wellFormedTrace.test(given) ? given : undefined
  }

  /** The key of this caller in limits: anonymous callers are told apart by address. */
  get callerKey(): string {
    return this.principal.kind === 'anonymous' ? `@${this.address}` : this.principal.id
  }

  /** Lets a revocation reach this request before its head is out. */
  watch(): void {
    this.#unwatch ??= this.host.connections.watch(this)
  }

  get signal(): AbortSignal {
    if (this.#abort) return this.#abort.signal
    const abort = new AbortController()
    this.#abort = abort
    if (this.revocation) abort.abort(this.revocation)
    if (this.#isDone || this.revocation) return abort.signal
    const { signal } = this.request
    const leave = () => this.abort(new GatewayError('unavailable', 'The client left before the answer began.'))
    if (signal.aborted) leave()
    else signal.addEventListener('abort', leave, { once: true })
    this.watch()
    this.#unlink = () => signal.removeEventListener('abort', leave)
    return abort.signal
  }

  /** Its credential was revoked: whatever it still does is refused. */
  revoke(): void {
    this.revocation ??= new GatewayError('invalid_api_key', 'The credential was revoked while the request came in.')
    this.abort(this.revocation)
  }

  /** Aborts `signal`, if anybody has it. */
  abort(reason: unknown): void {
    this.#abort?.abort(reason)
  }

  /** The head is out: from here on a stream's own `cancel()` tells that the client left (Deno aborts `request.signal` after good answers too). */
  done(): void {
    this.#isDone = true
    this.#unlink?.()
    this.#unlink = undefined
    this.#unwatch?.()
    this.#unwatch = undefined
  }

  idleTimeout(seconds: number): void {
    this.peer.idleTimeout?.(seconds)
  }

  hold(kind: ConnectionKind, close: (reason: 'revoked' | 'stopping') => void): () => void {
    if (this.revocation) throw this.revocation
    return this.host.connections.hold(this, kind, close)
  }
}
