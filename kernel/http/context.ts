/** What the kernel knows of one request, computed as late as possible. */
import type { Wait } from '../contract/deadlines.ts'
import type { Arrival } from '../contract/door.ts'
import { GatewayError, isGatewayError, type SecurityKind } from '../contract/errors.ts'
import type { RequestRecord } from '../contract/kernel-service.ts'
import { plainAddress } from '../contract/listener.ts'
import { type AuthResult, anonymous, type Principal } from '../contract/principal.ts'
import type { ConnectionKind } from '../contract/request.ts'
import type { RuntimePeer as Peer } from '../runtime/runtime.ts'
import { isForwarded, isLoopbackAddress } from './address.ts'
import type { CompiledGroup, Target } from './compile.ts'
import type { Connections, EndReason } from './connections.ts'

/** What contexts share. */
export interface ContextHost {
  readonly boundToLoopback: boolean
  readonly connections: Connections
  /** By trusted proxies; null when there are none. */
  clientAddress: ((peer: string, headers: Headers) => string) | null
}

const wellFormedId = /^[A-Za-z0-9._-]{1,128}$/
const wellFormedTrace = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/
const defaultDeadline = 30_000
/** Stands where an error is; it is never sent. */
const failed = new Response(null, { status: 500 })
const nothing = () => {}

/** The context of one request. */
export class Context implements Arrival, RequestRecord, Wait {
  readonly host: ContextHost
  readonly request: Request
  readonly peer: Peer
  readonly url: string
  readonly startedAt: number
  readonly requestId: string
  /** By `performance.now()`. */
  readonly begun = performance.now()
  dueAt = this.begun + defaultDeadline
  place: number | undefined
  /** Answers in the handler's stead. */
  expire: () => void = nothing
  /** Where the query begins in `url` (the `?`), -1 without one; and the path. Set by the door. */
  queryAt = -1
  path = ''
  principal: Principal = anonymous
  target: Target | undefined
  /** How the credential was verified, when it wants to know of held streams. */
  auth: AuthResult | undefined
  answerHeaders: Readonly<Record<string, string>> | undefined
  /** What is answered instead of what the handler returned. */
  failure: unknown
  /** Set when its credential was revoked after it was let in; what it did before that is still answered. */
  revocation: GatewayError | undefined
  /** Set when it is finished. */
  status = 0
  seconds = 0
  // Not #private: that costs a tenth of a microsecond for each field of each request.
  private knownAddress: string | undefined
  private isLoopback: boolean | undefined
  private aborter: AbortController | undefined

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
    this.knownAddress ??= (this.host.clientAddress ?? plainAddress)(this.peer.address, this.request.headers)
    return this.knownAddress
  }

  get loopback(): boolean {
    this.isLoopback ??= this.isNear() && !isForwarded(this.request.headers)
    return this.isLoopback
  }

  private isNear(): boolean {
    const { isLocal } = this.peer
    if (isLocal === undefined && this.peer.address === '') return true
    return this.host.boundToLoopback && this.host.clientAddress === null && (isLocal ?? isLoopbackAddress(this.peer.address))
  }

  get method(): string {
    return this.target?.socket ? 'WS' : this.request.method
  }

  get route(): string {
    return this.target?.template ?? 'unmatched'
  }

  get group(): CompiledGroup | undefined {
    return this.target?.group
  }

  get security(): SecurityKind | undefined {
    return isGatewayError(this.failure) ? this.failure.security : undefined
  }

  get traceparent(): string | undefined {
    const given = this.request.headers.get('traceparent')
    return given !== null && wellFormedTrace.test(given) ? given : undefined
  }

  get signal(): AbortSignal {
    if (!this.aborter) {
      this.aborter = new AbortController()
      this.peer.watch?.()
      if (this.revocation) this.abort(this.revocation)
    }
    return this.aborter.signal
  }

  /**
   * Looks whether the client left: a listener would cost more than all else that is done for a request. Not once the head is out: from there on a stream's own
   * `cancel()` tells, and Deno aborts `request.signal` after good answers too.
   */
  poll(): void {
    if (this.aborter?.signal.aborted === false && this.request.signal.aborted)
      this.abort(new GatewayError('unavailable', 'The client left before the answer began.'))
  }

  /** Its credential was revoked: whatever it still does is refused. */
  revoke(): void {
    this.revocation ??= new GatewayError('invalid_api_key', 'The credential was revoked while the request came in.')
    this.abort(this.revocation)
  }

  /** Aborts `signal`, if anybody has it. */
  abort(reason: unknown): void {
    this.aborter?.abort(reason)
  }

  /** Answers with the error, or with the one that came before it. */
  fail(error: unknown): Response {
    this.failure ??= error ?? new Error('nothing was thrown')
    return failed
  }

  idleTimeout(seconds: number): void {
    this.peer.idleTimeout?.(seconds)
  }

  hold(kind: ConnectionKind, close: (reason: EndReason) => void): () => void {
    if (this.revocation) throw this.revocation
    return this.host.connections.hold(this, kind, close)
  }
}
