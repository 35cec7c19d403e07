/** Bun: serving, and upgrades. */
import bunAdapter from 'crossws/adapters/bun'
import { withDeadline } from '../contract/deadlines.ts'
import { isLoopbackHost } from '../contract/host.ts'
import type { TlsPair } from '../contract/listener.ts'
import { closingMs, type Listener, type Runtime, type RuntimePeer, reopen, type ServeOptions } from './runtime.ts'

type BunServer = ReturnType<typeof Bun.serve>
type Wire = ReturnType<typeof bunAdapter>

/** The seconds after which Bun cuts a silent connection at most; also what a handler has until its first byte. */
const idleSeconds = 255

class BunPeer implements RuntimePeer {
  // Not #private: one of these is made for every request.
  private readonly request: Request
  private readonly server: BunServer
  private readonly wire: Wire
  readonly isLocal: boolean

  constructor(request: Request, server: BunServer, wire: Wire, isLocal: boolean) {
    this.request = request
    this.server = server
    this.wire = wire
    this.isLocal = isLocal
  }

  get address(): string {
    return this.server.requestIP(this.request)?.address ?? 'unknown'
  }

  idleTimeout(seconds: number): void {
    this.server.timeout(this.request, seconds)
  }

  upgrade(context: object): Promise<Response | undefined> {
    return this.wire.handleUpgrade(Object.assign(this.request, { context }), this.server as never)
  }
}

/** Bun as the kernel sees it. */
export const bunRuntime: Runtime = { name: 'bun', version: Bun.version, serve }

async function serve({ host, port, maxBodyBytes, tls, handle, hooks }: ServeOptions): Promise<Listener> {
  const wire = bunAdapter({ hooks, idleTimeout: 60 })
  const isLocal = isLoopbackHost(host)
  const open = (port: number, tls: TlsPair | undefined): BunServer =>
    Bun.serve({
      hostname: host,
      port,
      tls,
      idleTimeout: idleSeconds,
      // The kernel's 413 has an envelope, Bun's has not; what nobody reads Bun does not keep.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      development: false,
      websocket: { ...wire.websocket, maxPayloadLength: maxBodyBytes, backpressureLimit: 64 * 1_048_576 } as never,
      fetch: (request, server) => handle(request, new BunPeer(request, server, wire, isLocal)),
      error: () => new Response(null, { status: 500 }),
    })
  const first = open(port, tls)
  const place = { host: first.hostname ?? host, port: first.port ?? port }
  // Those before the last still serve who was connected to them.
  const servers = [first]
  return {
    ...place,
    async renew(tls) {
      for (const server of servers)
        server.stop().then(
          () => servers.splice(servers.indexOf(server), 1),
          () => {},
        )
      servers.push(await reopen(() => open(place.port, tls)))
    },
    async close() {
      await withDeadline(Promise.all(servers.map((server) => server.stop())), closingMs, 'the listener').catch(() => {})
      await Promise.all(servers.map((server) => server.stop(true)))
    },
  }
}
