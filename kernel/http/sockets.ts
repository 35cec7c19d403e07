/** WebSockets: upgrades through the gate, hooks under the kernel's guard, and an end for every connection. */
import type { Hooks, Peer as WirePeer } from 'crossws'
import type { Principal } from '../contract/principal.ts'
import { setContext } from '../contract/request.ts'
import type { Socket, SocketRoute } from '../contract/socket.ts'
import type { RuntimePeer as Peer, SocketDoor } from '../runtime/runtime.ts'
import type { Connections } from './connections.ts'
import type { Context } from './context.ts'

/** What sockets need of the room. */
export interface SocketsOptions {
  /** Host, Origin, table, access: the context to go on with, or the refusal. */
  admit(request: Request, peer: Peer): Promise<Context | Response>
  refuse(context: Context, error: unknown): Response
  readonly connections: Connections
  report(plugin: string, what: string, error: unknown): void
}

const maxBehind = 1_048_576
const defaultMaxMessage = 1_048_576
/** crossws copies what a request carries as `context` to the connection. */
interface Carried {
  socket?: LiveSocket
}

/** One adapter serves all sockets: its hooks go by what the upgrade left in the connection's context. */
export function createSockets({ admit, refuse, connections, report }: SocketsOptions): SocketDoor {
  const live = (peer: WirePeer): LiveSocket | undefined => (peer.context as Carried).socket
  const hooks: Partial<Hooks> = {
    // One namespace: crossws keeps a set per namespace for ever, and its default is the path.
    upgrade: () => ({ namespace: 'portico' }),
    open: (peer) => live(peer)?.opened(peer),
    message: (peer, message) => live(peer)?.received(message.rawData),
    close: (peer, details) => live(peer)?.ended(details.code ?? 1005, details.reason ?? ''),
    error: (peer) => live(peer)?.ended(1006, ''),
  }
  return {
    hooks,
    async admit(request, peer) {
      const context = await admit(request, peer)
      if (context instanceof Response) return context
      const socket = new LiveSocket(context, report)
      try {
        socket.release = connections.hold(context, 'events', (reason) =>
          reason === 'revoked' ? socket.close(4001, 'credential revoked') : socket.close(1001, 'the gateway stops'),
        )
      } catch (error) {
        return refuse(context, error)
      }
      return { context: { socket } satisfies Carried, abandon: () => socket.ended(1006, '') }
    },
  }
}

class LiveSocket implements Socket {
  readonly principal: Principal
  readonly requestId: string
  readonly request: Request
  readonly data: Record<string, unknown> = {}
  release: () => void = () => {}
  readonly #route: SocketRoute
  readonly #plugin: string
  readonly #report: SocketsOptions['report']
  #peer: WirePeer | undefined
  #isEnded = false

  constructor(context: Context, report: SocketsOptions['report']) {
    this.principal = context.principal
    this.requestId = context.requestId
    // The runtimes' own request is spent by the upgrade.
    this.request = new Request(context.url, { headers: context.request.headers })
    setContext(this.request, context)
    this.#route = context.target?.socket as SocketRoute
    this.#plugin = context.target?.group.plugin ?? 'kernel'
    this.#report = report
  }

  send(data: string | Uint8Array): boolean {
    const peer = this.#peer
    if (!peer || this.#isEnded) return false
    try {
      if (peer.bufferedAmount <= maxBehind) {
        peer.send(data)
        if (peer.bufferedAmount <= maxBehind) return true
      }
      this.close(1013, 'too far behind')
    } catch (error) {
      this.#fail('send', error)
    }
    return false
  }

  /** Forgets the peer at once: from a dead one no close event ever comes. */
  close(code = 1000, reason = ''): void {
    if (this.#isEnded) return
    try {
      this.#peer?.close(code, reason)
    } catch (error) {
      this.#report(this.#plugin, `socket ${this.#route.path}`, error)
    }
    this.ended(code, reason)
  }

  opened(peer: WirePeer): void {
    if (this.#isEnded) {
      peer.close(1001, 'the gateway stops')
      return
    }
    this.#peer = peer
    this.#run('open', () => this.#route.open?.(this))
  }

  received(raw: unknown): void {
    if (this.#isEnded) return
    const data = typeof raw === 'string' || raw instanceof Uint8Array ? raw : new Uint8Array(raw as ArrayBuffer)
    const limit = this.#route.maxMessageBytes ?? defaultMaxMessage
    const size = typeof data === 'string' && data.length * 3 > limit ? Buffer.byteLength(data) : data.length
    if (size > limit) this.close(1009, 'the message is too large')
    else this.#run('message', () => this.#route.message?.(this, data))
  }

  ended(code: number, reason: string): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.release()
    // Without `open` the plugin never heard of it.
    if (this.#peer) this.#run('close', () => this.#route.close?.(this, code, reason))
    this.#peer = undefined
  }

  #run(what: string, hook: () => void | Promise<void>): void {
    try {
      const running = hook()
      if (running instanceof Promise) running.catch((error) => this.#fail(what, error))
    } catch (error) {
      this.#fail(what, error)
    }
  }

  #fail(what: string, error: unknown): void {
    this.#report(this.#plugin, `socket ${this.#route.path} ${what}`, error)
    this.close(1011, 'the gateway failed on this socket')
  }
}
