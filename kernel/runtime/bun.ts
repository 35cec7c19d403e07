/** Bun: serve, sockets, signals. */
import bunAdapter from 'crossws/adapters/bun'
import { withDeadline } from '../contract/deadlines.ts'
import { isLoopbackHost } from '../contract/host.ts'
import { closingMs, type Listener, onSignal, type Runtime, type RuntimePeer, type ServeOptions } from './runtime.ts'

type BunServer = ReturnType<typeof Bun.serve>

/** The seconds after which Bun cuts a silent connection at most; also what a handler has until its first byte. */
const idleSeconds = 255

class BunPeer implements RuntimePeer {
  readonly #request: Request
  readonly #server: BunServer
  readonly isLocal: boolean

  constructor(request: Request, server: BunServer, isLocal: boolean) {
    this.#request = request
    this.#server = server
    this.isLocal = isLocal
  }

  get address(): string {
    return this.#server.requestIP(this.#request)?.address ?? 'unknown'
  }

  idleTimeout(seconds: number): void {
    this.#server.timeout(this.#request, seconds)
  }
}

/** Bun as the kernel sees it. */
export const bunRuntime: Runtime = {
  name: 'bun',
  version: Bun.version,
  serve,
  onSignal,
}

async function serve({ host, port, maxBodyBytes, handle, sockets }: ServeOptions): Promise<Listener> {
  const wire = bunAdapter({ hooks: sockets.hooks, idleTimeout: 60 })
  const isLocal = isLoopbackHost(host)
  const server: BunServer = Bun.serve({
    hostname: host,
    port,
    idleTimeout: idleSeconds,
    // The kernel's 413 has an envelope, Bun's has not; what nobody reads Bun does not keep.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    websocket: { ...wire.websocket, maxPayloadLength: maxBodyBytes, backpressureLimit: 64 * 1_048_576 } as never,
    fetch(request, server): Response | Promise<Response> {
      const peer = new BunPeer(request, server, isLocal)
      if (request.headers.get('upgrade')?.toLowerCase() === 'websocket') return upgrade(request, peer, server)
      return handle(request, peer)
    },
    error: () => new Response(null, { status: 500 }),
  })

  async function upgrade(request: Request, peer: BunPeer, server: BunServer): Promise<Response> {
    const admitted = await sockets.admit(request, peer)
    if (admitted instanceof Response) return admitted
    ;(request as { context?: object }).context = admitted.context
    const refused = await wire.handleUpgrade(request, server as never)
    if (refused) admitted.abandon()
    return refused as Response
  }

  return {
    host: server.hostname ?? host,
    port: server.port ?? port,
    async close() {
      await withDeadline(server.stop(), closingMs, 'the listener').catch(() => {})
      await server.stop(true)
    },
  }
}
