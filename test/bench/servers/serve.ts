/** What the baselines serve with: a bare `Bun.serve` or `Deno.serve` on a free port of loopback. */

/** Answers a request; `keepOpen` is for streams that may be silent for long. */
type Handler = (request: Request, keepOpen: () => void) => Response | Promise<Response>

interface DenoGlobal {
  serve(
    options: { hostname: string; port: number; onListen(at: { port: number }): void; onError(): Response },
    handler: (request: Request) => Response | Promise<Response>,
  ): void
}

/** Serves, and prints `http://127.0.0.1:PORT` with the path behind it. */
export function serve(handler: Handler, path = ''): void {
  const say = (port: number | undefined) => console.log(`http://127.0.0.1:${port}${path}`)
  const { Deno } = globalThis as unknown as { Deno?: DenoGlobal }
  if (Deno) {
    // When its client leaves, what it waits for is aborted: nothing to tell.
    const onError = () => new Response(null, { status: 500 })
    Deno.serve({ hostname: '127.0.0.1', port: 0, onListen: ({ port }) => say(port), onError }, (request) => handler(request, () => {}))
    return
  }
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: (request, server) => handler(request, () => server.timeout(request, 0)) })
  say(server.port)
}
