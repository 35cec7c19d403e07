/** A listener of the kernel's HTTP room with routes that show how a runtime behaves. Run on Bun and on Deno; prints its port as JSON. */
import { type AuthMethod, contextOf, guard, open, rpc, signed, t } from 'portico'
import { encodeSse, sseHeaders } from 'portico/plugins/events'
import { compilePlugin } from '../../kernel/http/compile.ts'
import { Http, type HttpOptions } from '../../kernel/http/http.ts'
import { assembleTable } from '../../kernel/http/table.ts'
import { currentRuntime } from '../../kernel/runtime/index.ts'
import { createStreamLimit } from '../../plugins/limits/limits.ts'
import { socketHooks, upgrade } from '../../plugins/sockets/live-socket.ts'
import { furnish } from '../fixtures/http.ts'

const notes: string[] = []
const onError: HttpOptions['onError'] = (plugin, what, error) => notes.push(`${plugin} ${what}: ${error instanceof Error ? error.message : error}`)
const streams = createStreamLimit()
const runtime = await currentRuntime()
const http = new Http({
  config: {
    ...{ host: '127.0.0.1', port: 0, hosts: [], allowPublicBind: false, trustedProxies: [], forwardedHeader: 'x-forwarded-for', corsOrigins: [] },
    ...{ httpBodyLimitBytes: 100_000, allowQueryToken: false, maxStreams: 8, shutdownDeadlineMs: 1_000 },
  },
  socketServer: () => ({ hooks: socketHooks, upgrade }),
  requestLimits: () => [],
  streamLimits: () => [streams],
  clock: { now: Date.now, sleep: async () => {} },
  boundToLoopback: true,
  onError,
})

const authMethods: AuthMethod[] = [
  {
    name: 'test',
    authenticate: ({ token, ticket }) =>
      token === 'good' || ticket === 'good'
        ? { principal: { id: 'ann', kind: 'user', scopes: ['rpc'], groups: [], via: 'test:good' }, cacheUntil: Number.POSITIVE_INFINITY }
        : token === 'poor'
          ? { principal: { id: 'bob', kind: 'user', scopes: [], groups: [], via: 'test:poor' } }
          : null,
  },
]
furnish(http, { authMethods: () => authMethods, now: Date.now, onError })

const { compiled, problems } = await compilePlugin(
  'fixture',
  ['/t'],
  [
    guard(rpc, (app) =>
      app
        .get('/t/hello/:name', ({ params, principal, requestId, loopback }) => ({ hello: params.name, principal: principal.id, requestId, loopback }))
        .post('/t/echo', ({ body }) => body, { body: t.Object({ text: t.String() }) })
        .get('/t/file', () => new Response('x'.repeat(1_000), { headers: { 'content-type': 'text/plain' } }))
        .get('/t/wait', async ({ signal }) => {
          notes.push('waiting')
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
          notes.push('left')
          return 'gone'
        }),
    ),
    guard(rpc, (app) => app.get('/t/late', () => new Promise<string>(() => {})), { deadline: 200 }),
    guard(
      rpc,
      (app) =>
        app.get('/t/stream', ({ request }) => {
          notes.push('stream began')
          let timer: ReturnType<typeof setInterval>
          let release = () => {}
          const body = new ReadableStream<Uint8Array>({
            start(controller) {
              controller.enqueue(encodeSse({ retry: 3_000 }))
              timer = setInterval(() => controller.enqueue(encodeSse({ event: 'tick', data: 1 })), 50)
              release = contextOf(request).hold('events', (reason) => {
                clearInterval(timer)
                notes.push(`stream ${reason}`)
                controller.close()
              })
            },
            cancel() {
              clearInterval(timer)
              release()
              notes.push('stream cancelled')
            },
          })
          return new Response(body, { headers: sseHeaders })
        }),
      { stream: true },
    ),
    signed((app) => app.post('/t/raw', async ({ request }) => ({ size: (await request.arrayBuffer()).byteLength }))),
    open((app) =>
      app
        .get('/t/notes', () => notes)
        .get('/t/where', ({ request, loopback }) => ({ address: contextOf(request).address, loopback, url: request.url }))
        .get('/t/broken', () => {
          const body = new ReadableStream<Uint8Array>({
            start: (controller) => controller.enqueue(encodeSse({ data: 'first' })),
            async pull(controller) {
              await new Promise((resolve) => setTimeout(resolve, 10))
              controller.error(new Error('boom'))
            },
          })
          return new Response(body, { headers: sseHeaders })
        })
        .get('/t/secret', () => {
          throw new Error('secret')
        })
        .post('/t/do/:what', ({ params }) => {
          if (params.what === 'revoke') http.revoke('test:good')
          if (params.what === 'end') void http.drain(60_000)
          if (params.what === 'close') http.closeIntake()
          return http.stats()
        }),
    ),
  ],
  [
    {
      ...{ path: '/t/ws', access: rpc, maxMessageBytes: 1_000 },
      open: (socket) => void socket.send(JSON.stringify({ principal: socket.principal.id, requestId: socket.requestId })),
      message(socket, data) {
        if (data === 'throw') throw new Error('thrown by a hook')
        if (data === 'reject') return Promise.reject(new Error('rejected by a hook'))
        if (data === 'close') return socket.close(4_999, 'as asked')
        if (data === 'flood') {
          const chunk = 'f'.repeat(200_000)
          for (let i = 0; i < 10_000; i++) if (!socket.send(chunk)) return void notes.push(`flood ended, then ${socket.send('x')}`)
          notes.push('flood never ended')
          return
        }
        socket.send(data)
      },
      close: (_socket, code, reason) => void notes.push(`closed ${code} ${reason}`),
    },
  ],
)
const { table, problems: conflicts } = assembleTable([{ state: 'ready', compiled }])
if (problems.length + conflicts.length > 0) throw new Error(JSON.stringify([problems, conflicts]))
http.table = table
const listener = await runtime.serve({
  ...{ host: '127.0.0.1', port: 0, maxBodyBytes: 100_000 },
  ...{ handle: (request, peer) => http.handle(request, peer), hooks: socketHooks },
})
http.setOrigin(listener.host, listener.port)
console.log(JSON.stringify({ port: listener.port, runtime: `${runtime.name} ${runtime.version}` }))
// It must not outlive the test that started it.
process.stdin.on('end', () => process.exit(1)).resume()
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stop(signal))

async function stop(signal: string): Promise<never> {
  http.closeIntake()
  await http.drain(1_000)
  await listener.close()
  console.log(signal)
  process.exit(0)
}
