/** Deno: serving, and upgrades. */
import type { Hooks, Peer } from 'crossws'
import denoAdapter from 'crossws/adapters/deno'
import { withDeadline } from '../contract/deadlines.ts'
import { isLoopbackHost } from '../contract/host.ts'
import type { TlsPair } from '../contract/listener.ts'
import { closingMs, type Listener, type Runtime, reopen, type ServeOptions } from './runtime.ts'

interface DenoInfo {
  readonly remoteAddr: { readonly hostname?: string }
}

interface DenoServer {
  readonly addr: { readonly hostname: string; readonly port: number }
  shutdown(): Promise<void>
  unref(): void
}

interface DenoGlobal {
  readonly version: { readonly deno: string }
  serve(
    options: { hostname: string; port: number; cert?: string; key?: string; onListen(): void; onError(error: unknown): Response },
    handler: (request: Request, info: DenoInfo) => Response | Promise<Response>,
  ): DenoServer
}

const deno = (globalThis as unknown as { Deno: DenoGlobal }).Deno

/** Deno as the kernel sees it. */
export const denoRuntime: Runtime = { name: 'deno', version: deno.version.deno, serve }

async function serve({ host, port, tls, handle, hooks }: ServeOptions): Promise<Listener> {
  const wire = denoAdapter({ hooks: complete(hooks), idleTimeout: 60 })
  const isLocal = isLoopbackHost(host)
  const answer = (arrived: Request, info: DenoInfo) => {
    const isHttp2 = tls !== undefined && !arrived.headers.has('host')
    const request = isHttp2 ? withHost(arrived) : arrived
    return handle(request, {
      isLocal,
      isHttp2,
      get address() {
        return info.remoteAddr.hostname ?? 'unknown'
      },
      watch: () => void request.signal,
      // It throws on a handshake that is none.
      upgrade: (context) => wire.handleUpgrade(Object.assign(request, { context }), info as never).catch(() => new Response(null, { status: 400 })),
    })
  }
  const open = (port: number, tls: TlsPair | undefined) =>
    deno.serve(
      {
        hostname: host.replace(/^\[|\]$/g, ''),
        port,
        ...(tls && { cert: tls.cert, key: tls.key }),
        onListen() {},
        onError: () => new Response(null, { status: 500 }),
      },
      answer,
    )
  const first = open(port, tls)
  const place = { host: first.addr.hostname, port: first.addr.port }
  // Those before the last still serve who was connected to them.
  const servers = new Map<DenoServer, Promise<void> | undefined>([[first, undefined]])
  // Once the shutdown has begun, aborting by a signal throws where nobody can catch it; connections that hang end with the process.
  const end = ([server, ending]: [DenoServer, Promise<void> | undefined]) =>
    withDeadline(ending ?? server.shutdown(), closingMs, 'the listener').catch(() => server.unref())
  return {
    ...place,
    async renew(tls) {
      for (const [server, ending] of servers) servers.set(server, ending ?? server.shutdown().finally(() => servers.delete(server)))
      servers.set(await reopen(() => open(place.port, tls)), undefined)
    },
    async close() {
      await Promise.all([...servers].map(end))
    },
  }
}

/** Of HTTP/2, which Deno speaks over TLS unasked: there is no Host, the URL has it. So has the URL of a request of HTTP/1.1 without one, which becomes `localhost`. */
function withHost(request: Request): Request {
  const headers = new Headers(request.headers)
  headers.set('host', new URL(request.url).host)
  return new Request(request, { headers })
}

/** What crossws leaves out on Deno: binary messages as bytes instead of blobs, and the code and reason of a close. */
function complete(hooks: Partial<Hooks>): Partial<Hooks> {
  const closed = new WeakMap<Peer, { code: number; reason: string }>()
  return {
    ...hooks,
    open(peer) {
      const { ws } = (peer as unknown as { _internal: { ws: WebSocket } })._internal
      ws.binaryType = 'arraybuffer'
      ws.addEventListener('close', ({ code, reason }) => closed.set(peer, { code, reason }))
      return hooks.open?.(peer)
    },
    // crossws listened first: our listener runs after this hook, in the same dispatch.
    close: (peer) => queueMicrotask(() => void hooks.close?.(peer, closed.get(peer) ?? {})),
  }
}
