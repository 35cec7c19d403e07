/** Streams and sockets that requests hold: what revoking and stopping must reach. */
import { Bag, type Bagged } from '../contract/bag.ts'
import type { StreamLimit } from '../contract/limits.ts'
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

/** What they are kept with. */
export interface ConnectionsOptions {
  limits(): readonly StreamLimit[]
  maxStreams(): number
  readonly report: Report
}

/** All of them. */
export class Connections {
  readonly #options: ConnectionsOptions
  readonly #holds = new Bag<Hold>()

  constructor(options: ConnectionsOptions) {
    this.#options = options
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
    const { limits, maxStreams, report } = this.#options
    if (kind === 'events') for (const limit of limits()) limit(context, 1, maxStreams())
    const guard = (run: () => void) => {
      try {
        run()
      } catch (error) {
        report(context.target?.group.plugin ?? 'kernel', 'ending a stream', error)
      }
    }
    const release = () => {
      if (!this.#holds.delete(hold)) return
      if (kind === 'events') for (const limit of limits()) limit(context, -1, maxStreams())
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
}
