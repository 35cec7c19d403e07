/** WebSockets: upgrades of requests that were let in, hooks under guard, and an end for every connection. */
import type { Hooks, Peer as WirePeer } from 'crossws'
import type { Principal, Socket, SocketRoute, Upgrade } from 'portico'

const [maxBehind, defaultMaxMessage] = [1_048_576, 1_048_576]
const ends: Record<'revoked' | 'stopping', [number, string]> = { revoked: [4001, 'credential revoked'], stopping: [1001, 'the gateway stops'] }

const live = (peer: WirePeer): LiveSocket | undefined => (peer.context as { socket?: LiveSocket }).socket

/** One adapter serves all sockets: its hooks go by what the upgrade left in the connection's context. */
export const socketHooks: Partial<Hooks> = {
  // One namespace: crossws keeps a set per namespace for ever, and its default is the path.
  upgrade: () => ({ namespace: 'portico' }),
  open: (peer) => live(peer)?.opened(peer),
  message: (peer, message) => live(peer)?.received(message.rawData),
  close: (peer, details) => live(peer)?.ended(details.code ?? 1005, details.reason ?? ''),
  error: (peer) => live(peer)?.ended(1006, ''),
}

/** Makes the request a socket of its target. Throws 429 when its caller holds too many. */
export async function upgrade(asked: Upgrade): Promise<Response> {
  const socket = new LiveSocket(asked)
  socket.release = asked.context.hold('events', (reason) => socket.close(...ends[reason]))
  const answer = await asked.accept({ socket })
  if (answer && answer.status !== 101) socket.ended(1006, '')
  return answer as Response
}

class LiveSocket implements Socket {
  readonly principal: Principal
  readonly requestId: string
  readonly request: Request
  readonly data: Record<string, unknown> = {}
  release: () => void = () => {}
  readonly #route: SocketRoute
  readonly #report: (what: string, error: unknown) => void
  #peer: WirePeer | undefined
  #isEnded = false

  constructor({ context, request, route, report }: Upgrade) {
    this.principal = context.principal
    this.requestId = context.requestId
    this.request = request
    this.#route = route
    this.#report = report
  }

  get behind(): number {
    return this.#peer?.bufferedAmount ?? 0
  }

  send(data: string | Uint8Array): boolean {
    if (!this.#peer || this.#isEnded) return false
    try {
      if (this.behind <= maxBehind) this.#peer.send(data)
      if (this.behind <= maxBehind) return true
      this.close(1013, 'too far behind')
    } catch (error) {
      this.#fail('send', error)
    }
    return false
  }

  /** Forgets the peer at once: from a dead one no close event ever comes. */
  close(code = 1000, reason = ''): void {
    const peer = this.#peer
    this.ended(code, reason)
    this.#run('close', () => peer?.close(code, reason))
  }

  opened(peer: WirePeer): void {
    if (!this.#isEnded) this.#peer = peer
    if (this.#isEnded) peer.close(...ends.stopping)
    else this.#run('open', () => this.#route.open?.(this))
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
    this.#report(what, error)
    this.close(1011, 'the gateway failed on this socket')
  }
}
