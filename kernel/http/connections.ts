/** Streams and sockets that requests hold: what revoking and stopping must reach. */
import { Bag, type Bagged } from '../contract/bag.ts'
import { GatewayError } from '../contract/errors.ts'
import type { ConnectionKind } from '../contract/request.ts'
import type { Context } from './context.ts'
import type { Report } from './errors.ts'

/** Why the kernel ends a connection. */
export type EndReason = 'revoked' | 'stopping'

interface Hold extends Bagged {
  readonly context: Context
  readonly kind: ConnectionKind
  end(reason: EndReason): void
}

/** All of them. */
export class Connections {
  /** Of one caller. */
  maxStreams: number
  readonly #report: Report
  readonly #holds = new Bag<Hold>()
  readonly #streams = new Map<string, number>()

  constructor(maxStreams: number, report: Report) {
    this.maxStreams = maxStreams
    this.#report = report
  }

  /** How many holds of the kind there are. */
  count(kind: ConnectionKind): number {
    let total = 0
    for (const hold of this.#holds) if (hold.kind === kind) total++
    return total
  }

  /** Whether there is one that is meant. */
  some(isMeant: (hold: Hold) => boolean): boolean {
    return [...this.#holds].some(isMeant)
  }

  /** See `RequestContext.hold`. */
  hold(context: Context, kind: ConnectionKind, close: (reason: EndReason) => void): () => void {
    const key = context.callerKey
    if (kind === 'events') this.#tally(key, 1)
    const guard = (run: () => void) => {
      try {
        run()
      } catch (error) {
        this.#report(context.target?.group.plugin ?? 'kernel', 'ending a stream', error)
      }
    }
    const release = () => {
      if (!this.#holds.delete(hold)) return
      if (kind === 'events') this.#tally(key, -1)
      guard(() => withdraw?.())
    }
    const hold: Hold = {
      place: undefined,
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

  /** Ends those that are meant. */
  end(reason: EndReason, isMeant: (hold: Hold) => boolean): void {
    for (const hold of this.#holds) if (isMeant(hold)) hold.end(reason)
  }

  #tally(key: string, by: 1 | -1): void {
    const count = (this.#streams.get(key) ?? 0) + by
    if (count > this.maxStreams) {
      throw new GatewayError('rate_limit_exceeded', `At most ${this.maxStreams} live streams and sockets per caller; close one first.`, { retryAfter: 5 })
    }
    if (count > 0) this.#streams.set(key, count)
    else this.#streams.delete(key)
  }
}
