/** A run as it goes on, over SSE and over a socket: first how it stands, then what happens, last its end. */
import { contextOf, GatewayError, isGatewayError, type Logger, rpc, type SocketRoute, selfReporting } from 'portico'
import { encodeSse, sseHeaders } from 'portico/plugins/events'
import type { Run, Runs, RunUpdate } from './contract.ts'
import { toEntryView, toView } from './views.ts'

/** ms without a word, after which a comment says that the line stands. */
const keepAlive = 15_000
const encoder = new TextEncoder()

/** A frame, as JSON. `blocks`: the text of a model's answer in one piece, once it is whole. */
export type Format = 'deltas' | 'blocks'

/** What an update is as a frame; undefined = nothing in this format. */
export function toFrame(run: Run, update: RunUpdate, format: Format): { type: string; [key: string]: unknown } | undefined {
  switch (update.type) {
    case 'delta':
      return format === 'blocks' ? undefined : { type: 'delta', delta: update.text, ...(update.isRestart ? { restart: true } : {}) }
    case 'entry': {
      const { type, ...entry } = toEntryView(run.id, update.entry)
      return { type: statusOf(type), event: type, ...entry }
    }
    case 'progress':
      return { type: 'progress', call_id: update.callId, message: update.message, ...(update.fraction === undefined ? {} : { fraction: update.fraction }) }
    case 'end':
      return { type: update.run.state, ...toView(update.run) }
  }
}

/** Of the seed's frames only `status`, and the ends by their own names; the last frame is the end. */
function statusOf(type: string): string {
  return ['queued', 'started', 'awaiting_approval', 'completed', 'failed', 'cancelled', 'rejected'].includes(type) ? 'status' : type
}

/** The stream of `GET /v1/runs/:id/stream`. */
export async function streamRun(runs: Runs, id: string, request: Request, { format, log }: { format: Format; log: Logger }): Promise<Response> {
  const context = contextOf(request)
  const { principal, requestId } = context
  const run = await runs.get(id, principal)
  const after = request.headers.get('last-event-id') ?? undefined
  context.idleTimeout(0)
  const end = new AbortController()
  const leave = () => end.abort(context.signal.reason)
  if (context.signal.aborted) leave()
  context.signal.addEventListener('abort', leave, { once: true })
  const updates = runs.watch(id, principal, { signal: end.signal, after })
  let reason: GatewayError | undefined
  let release = () => {}
  let next: Promise<IteratorResult<RunUpdate, void>> | undefined
  const snapshot = { type: 'snapshot', ...toView(run) }

  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        release = context.hold('events', (why) => {
          reason = new GatewayError(
            why === 'revoked' ? 'invalid_api_key' : 'unavailable',
            why === 'revoked' ? 'The credential was revoked.' : 'The gateway stops: come again with Last-Event-ID.',
          )
          end.abort(reason)
        })
        controller.enqueue(encoder.encode('retry: 3000\n\n'))
        if (after === undefined) controller.enqueue(encodeSse({ event: 'snapshot', data: snapshot }))
      },
      async pull(controller) {
        try {
          for (;;) {
            next ??= updates.next()
            const result = await Promise.race([next, silence()])
            if (result === 'silent') return controller.enqueue(encoder.encode(': here\n\n'))
            next = undefined
            if (result.done) break
            const frame = toFrame(run, result.value, format)
            if (!frame) continue
            controller.enqueue(encodeSse({ event: frame.type, id: result.value.id, data: frame }))
            if (result.value.type === 'end') break
            return
          }
          if (reason) throw reason
        } catch (error) {
          const { code, message } = reason ?? (isGatewayError(error) ? error : new GatewayError('internal_error', 'The stream failed; come again.'))
          if (code === 'internal_error') log.error('The stream of a run failed', { runId: id, requestId, error })
          controller.enqueue(encodeSse({ event: 'error', data: { type: 'error', code, message, requestId } }))
        }
        release()
        controller.close()
      },
      cancel() {
        release()
        end.abort()
        updates.return().catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(selfReporting(stream) as BodyInit, { headers: sseHeaders })
}

function silence(): Promise<'silent'> {
  return new Promise((resolve) => setTimeout(resolve, keepAlive, 'silent'))
}

/** `/ws/runs/:id` has no place for an id in a path of a socket: the run stands in the query, `?run_id=`. */
export function runSocket(runs: Runs, log: Logger): SocketRoute {
  return {
    path: '/ws/runs',
    access: rpc,
    open(socket) {
      const end = new AbortController()
      socket.data.end = end
      const query = new URL(socket.request.url).searchParams
      follow(query.get('run_id') ?? '', query.get('after') ?? undefined, query.get('format') === 'blocks' ? 'blocks' : 'deltas').catch((error: unknown) => {
        const known = isGatewayError(error) ? error : new GatewayError('internal_error', 'The stream failed; come again.')
        if (known !== error) log.error('The socket of a run failed', { requestId: socket.requestId, error })
        socket.send(JSON.stringify({ type: 'error', code: known.code, message: known.message, requestId: socket.requestId }))
        socket.close(1008, known.code)
      })

      async function follow(id: string, after: string | undefined, format: Format): Promise<void> {
        const run = await runs.get(id, socket.principal)
        if (after === undefined) socket.send(JSON.stringify({ type: 'snapshot', ...toView(run) }))
        for await (const update of runs.watch(id, socket.principal, { signal: end.signal, after })) {
          const frame = toFrame(run, update, format)
          if (frame && !socket.send(JSON.stringify({ id: update.id, ...frame }))) return
        }
        socket.close(1000, 'done')
      }
    },
    message: () => undefined,
    close: (socket) => (socket.data.end as AbortController).abort(),
  }
}
