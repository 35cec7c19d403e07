/** Deno: serving, and upgrades. */
import type { Hooks, Peer } from 'crossws'
import denoAdapter from 'crossws/adapters/deno'
import { withDeadline } from '../contract/deadlines.ts'
import { isLoopbackHost } from '../contract/host.ts'
import { closingMs, type Listener, type Runtime, type ServeOptions } from './runtime.ts'

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
    options: { hostname: string; port: number; onListen(): void; onError(error: unknown): Response },
    handler: (request: Request, info: DenoInfo) => Response | Promise<Response>,
  ): DenoServer
}

const deno = (globalThis as unknown as { Deno: DenoGlobal }).Deno

/** Deno as the kernel sees it. */
export const denoRuntime: Runtime = { name: 'deno', version: deno.version.deno, serve }

async function serve({ host, port, handle, hooks }: ServeOptions): Promise<Listener> {
  const wire = denoAdapter({ hooks: complete(hooks), idleTimeout: 60 })
  const isLocal = isLoopbackHost(host)
  const server = deno.serve(
    { hostname: host.replace(/^\[|\]$/g, ''), port, onListen() {}, onError: () => new Response(null, { status: 500 }) },
    (request, info) =>
      handle(request, {
        isLocal,
        get address() {
          return info.remoteAddr.hostname ?? 'unknown'
        },
        watch: () => void request.signal,
        // It throws on a handshake that is none.
        upgrade: (context) => wire.handleUpgrade(Object.assign(request, { context }), info as never).catch(() => new Response(null, { status: 400 })),
      }),
  )
  return {
    host: server.addr.hostname,
    port: server.addr.port,
    async close() {
      // Once the shutdown has begun, aborting by a signal throws where nobody can catch it; connections that hang end with the process.
      await withDeadline(server.shutdown(), closingMs, 'the listener').catch(() => server.unref())
    },
  }
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
