/** The live ends of requests: what revoking and stopping must reach. */
import { GatewayError } from '../contract/errors.ts'
import type { ConnectionKind } from '../contract/request.ts'
import type { Context } from './context.ts'

/** Why the kernel ends a connection. */
export type EndReason = 'revoked' | 'stopping'

interface Hold {
  readonly context: Context
  readonly kind: ConnectionKind
  end(reason: EndReason): void
}

/** Holds (streams, sockets) and the requests whose signal somebody reads. */
export class Connections {
  readonly #maxStreams: number
  readonly #onError: (plugin: string, what: string, error: unknown) => void
  readonly #holds = new Set<Hold>()
  readonly #watched = new Set<Context>()
  readonly #streams = new Map<string, number>()
  readonly #onRelease: () => void

  /** `onRelease` is called after each release. */
  constructor(maxStreams: number, report: (plugin: string, what: string, error: unknown) => void, onRelease: () => void) {
    this.#maxStreams = maxStreams
    this.#onError = report
    this.#onRelease = onRelease
  }

  /** How many holds of the kind there are. */
  count(kind: ConnectionKind): number {
    let total = 0
    for (const hold of this.#holds) if (hold.kind === kind) total++
    return total
  }

  /** See `RequestContext.hold`. */
  hold(context: Context, kind: ConnectionKind, close: (reason: EndReason) => void): () => void {
    const key = context.callerKey
    if (kind === 'events') this.#count(key)
    const release = () => {
      if (!this.#holds.delete(hold)) return
      if (kind === 'events') this.#uncount(key)
      guard(() => withdraw?.())
      this.#onRelease()
    }
    const guard = (run: () => void) => {
      try {
        run()
      } catch (error) {
        this.#onError(context.target?.group.plugin ?? 'kernel', 'ending a stream', error)
      }
    }
    const hold: Hold = {
      context,
      kind,
      end(reason) {
        release()
        guard(() => close(reason))
      },
    }
    this.#holds.add(hold)
    const withdraw = context.auth?.held?.(() => hold.end('revoked'))
    return release
  }

  /** Lets `revoke` and `abortAll` reach the signal of a request that has no head yet. */
  watch(context: Context): () => void {
    this.#watched.add(context)
    return () => void this.#watched.delete(context)
  }

  /** Ends what this credential holds. */
  revoke(via: string): void {
    for (const hold of [...this.#holds]) if (hold.context.principal.via === via) hold.end('revoked')
    for (const context of [...this.#watched]) if (context.principal.via === via) context.revoke()
  }

  /** Ends all holds of a kind because the gateway stops. */
  end(kind: ConnectionKind): void {
    for (const hold of [...this.#holds]) if (hold.kind === kind) hold.end('stopping')
  }

  /** Aborts what has not answered. */
  abortAll(): void {
    for (const context of [...this.#watched]) context.abort(new GatewayError('unavailable', 'The gateway is stopping.'))
  }

  #count(key: string): void {
    const count = this.#streams.get(key) ?? 0
    if (count >= this.#maxStreams) {
      throw new GatewayError('rate_limit_exceeded', `At most ${this.#maxStreams} live streams and sockets per caller; close one first.`, { retryAfter: 5 })
    }
    this.#streams.set(key, count + 1)
  }

  #uncount(key: string): void {
    const count = (this.#streams.get(key) ?? 1) - 1
    if (count > 0) this.#streams.set(key, count)
    else this.#streams.delete(key)
  }
}
