/** A run as it goes on, over SSE and over sockets: first how it stands, then what happens, last its end. The frames are AgentZero's: JSON that says its `type`. */
import { type Clock, contextOf, GatewayError, isGatewayError, type Logger, type Principal, rpc, type Socket, type SocketRoute, selfReporting } from 'portico'
import { encodeSse, sseHeaders } from 'portico/plugins/events'
import { toBlocks } from './blocks.ts'
import type { Run, Runs, RunUpdate } from './contract.ts'
import { toEntryView, toStatus, toView } from './views.ts'

/** `deltas`: an answer as it comes. `blocks`: whole answers only, in paragraphs, headers, list items and code. */
export type StreamFormat = 'deltas' | 'blocks'

/** One frame. `id` is where to go on after; of a snapshot there is none. */
export interface RunFrame {
  readonly id?: string
  readonly data: { readonly type: string; readonly [key: string]: unknown }
}

/** What is followed, and how. */
interface FollowOptions {
  readonly principal: Principal
  readonly signal: AbortSignal
  readonly format: StreamFormat
  /** Id of the last frame that was seen. */
  readonly after?: string
}

/** The id of the last frame. There is nothing after it, and no reason to come again. */
const endId = 'end'
/** ms without a frame, after which a comment says that the line stands. */
const keepAliveMs = 15_000
/** Seconds until the connection of a reader who takes nothing, not even comments, is cut. */
const stalledSeconds = 60

/** The snapshot, what happens, and the end; without an end when the signal aborts. */
async function* framesOf(runs: Runs, run: Run, { principal, signal, format, after }: FollowOptions): AsyncGenerator<RunFrame, void> {
  yield { data: { type: 'snapshot', ...toView(run) } }
  for await (const update of runs.watch(run.id, principal, { signal, after })) {
    const data = toFrame(run.id, update, format)
    if (data) yield { id: update.type === 'end' ? endId : update.id, data }
  }
}

/** What an update is as a frame; undefined = nothing in this format. */
function toFrame(runId: string, update: RunUpdate, format: StreamFormat): RunFrame['data'] | undefined {
  const inBlocks = (text: string | null | undefined) => (format === 'blocks' && text ? { format, blocks: toBlocks(text) } : {})
  switch (update.type) {
    case 'delta':
      return format === 'blocks' ? undefined : { type: 'delta', delta: update.text, ...(update.isRestart ? { restart: true } : {}) }
    case 'progress':
      return { type: 'progress', call_id: update.callId, message: update.message, ...(update.fraction === undefined ? {} : { fraction: update.fraction }) }
    case 'entry': {
      const { type: event, ...entry } = toEntryView(runId, update.entry)
      const status = statusAfter(update.entry.type)
      return status ? { type: 'status', status, event, ...entry } : { type: event, ...entry, ...inBlocks(entry.text) }
    }
    case 'end':
      return { type: toStatus(update.run.state), ...toView(update.run), ...inBlocks(update.run.result) }
  }
}

/** The status that an entry brings; undefined = it changes none. */
function statusAfter(type: Extract<RunUpdate, { type: 'entry' }>['entry']['type']): string | undefined {
  switch (type) {
    case 'message':
    case 'model_call':
    case 'tool_call':
    case 'tool_result':
      return undefined
    case 'started':
      return 'running'
    default:
      return toStatus(type)
  }
}

/** What a stream is made of. */
export interface RunStreamOptions {
  readonly format: StreamFormat
  readonly log: Logger
  /** Default 15,000. Another is for tests. */
  readonly keepAliveMs?: number
}

/**
 * The answer of `GET /v1/runs/:id/stream`. Frames are made when they are read: a reader that does not read holds nothing up and fills no memory.
 * An EventSource that comes again after the end gets 204, which is what stops it (HTML §9.2.3).
 * @throws GatewayError `not_found`, also for another principal's run
 */
export async function openRunStream(runs: Runs, id: string, request: Request, options: RunStreamOptions): Promise<Response> {
  const run = await runs.get(id, contextOf(request).principal)
  if (request.headers.get('last-event-id') === endId) return new Response(null, { status: 204 })
  return new Response(toStream(runs, run, request, options) as BodyInit, { headers: sseHeaders })
}

function toStream(runs: Runs, run: Run, request: Request, { format, log, keepAliveMs: silence = keepAliveMs }: RunStreamOptions): ReadableStream<Uint8Array> {
  const context = contextOf(request)
  context.idleTimeout(stalledSeconds)
  const end = new AbortController()
  const leave = () => end.abort(context.signal.reason)
  // Who left while the run was read waits for nothing.
  if (context.signal.aborted) leave()
  context.signal.addEventListener('abort', leave, { once: true })
  const after = request.headers.get('last-event-id') || undefined
  const frames = framesOf(runs, run, { principal: context.principal, signal: end.signal, format, after })
  const take = takerOf(frames)
  let isLeft = false
  let reason = new GatewayError('unavailable', 'The stream broke off: come again with Last-Event-ID.')
  let release = () => {}

  return selfReporting(
    new ReadableStream<Uint8Array>(
      {
        start(controller) {
          release = context.hold('events', (why) => {
            reason =
              why === 'revoked'
                ? new GatewayError('invalid_api_key', 'The credential was revoked.')
                : new GatewayError('unavailable', 'The gateway stops: come again with Last-Event-ID.')
            end.abort(reason)
          })
          controller.enqueue(encodeSse({ retry: 3_000 }))
        },
        async pull(controller) {
          try {
            const taken = await take(silence)
            if (isLeft) return
            if (taken === undefined) return controller.enqueue(encodeSse({ comment: 'ping' }))
            if (taken.done) throw reason
            controller.enqueue(encodeSse(taken.value))
            if (taken.value.id !== endId) return
          } catch (error) {
            if (isLeft) return
            controller.enqueue(encodeSse({ data: toErrorFrame(error, { log, runId: run.id, requestId: context.requestId }) }))
          }
          release()
          end.abort()
          controller.close()
        },
        cancel(why) {
          isLeft = true
          release()
          end.abort(why)
          // Suspended at a frame, it hears of the signal only when it is asked to end.
          frames.return().catch(() => undefined)
        },
      },
      { highWaterMark: 0 },
    ),
  )
}

/** Takes one after the other, with patience: undefined when nothing came within `ms`. What comes later is what the next call gets. */
function takerOf<T>(source: AsyncGenerator<T, void>): (ms: number) => Promise<IteratorResult<T, void> | undefined> {
  let isAsked = false
  let outcome: (() => IteratorResult<T, void>) | undefined
  let wake = () => {}
  const settle = (result: typeof outcome) => {
    outcome = result
    wake()
  }
  return async (ms) => {
    if (!isAsked) {
      isAsked = true
      source.next().then(
        (result) => settle(() => result),
        (error) =>
          settle(() => {
            throw error
          }),
      )
    }
    if (!outcome)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    const taken = outcome
    if (!taken) return undefined
    isAsked = false
    outcome = undefined
    return taken()
  }
}

function toErrorFrame(error: unknown, { log, runId, requestId }: { log: Logger; runId: string; requestId: string }) {
  const known = isGatewayError(error)
    ? error
    : new GatewayError('internal_error', 'The stream failed in the gateway; its log has the reason.', { cause: error })
  if (known.code === 'internal_error') log.error('The stream of a run failed', { runId, requestId, error })
  return { type: 'error', code: known.code, message: known.message, requestId }
}

/** Bytes that may wait for a peer, ms between two looks at whether it has taken them, and until it is given up. */
const [maxBehind, pauseMs, patienceMs] = [262_144, 20, 30_000]

/** `/ws/runs/:id`: the same frames, each with its `id`; `?after=` an id goes on after it, `?format=blocks`. What the peer says is not listened to. */
export function runSocket(runs: Runs, { clock, log }: { clock: Clock; log: Logger }): SocketRoute {
  return {
    path: '/ws/runs/:id',
    access: rpc,
    maxMessageBytes: 1_024,
    async open(socket) {
      const end = new AbortController()
      socket.data.end = end
      const { pathname, searchParams } = new URL(socket.request.url)
      const runId = pathname.split('/')[3] ?? ''
      try {
        const run = await runs.get(runId, socket.principal)
        const after = searchParams.get('after') || undefined
        const frames = framesOf(runs, run, { principal: socket.principal, signal: end.signal, format: toFormat(searchParams.get('format')), after })
        if (after !== endId)
          for await (const { id, data } of frames) {
            if (!(await hasRoom(socket, end.signal))) return socket.close(1013, 'too far behind')
            if (!socket.send(JSON.stringify(id === undefined ? data : { ...data, id }))) return
          }
        socket.close(1000, 'the run is over')
      } catch (error) {
        const frame = toErrorFrame(error, { log, runId, requestId: socket.requestId })
        socket.send(JSON.stringify(frame))
        socket.close(1008, frame.code)
      }
    },
    close: (socket) => (socket.data.end as AbortController).abort(),
  }

  /** Waits until the peer has taken most of what was sent. False when it takes nothing. */
  async function hasRoom(socket: Socket, signal: AbortSignal): Promise<boolean> {
    const until = clock.now() + patienceMs
    while (!signal.aborted && socket.behind > maxBehind) {
      if (clock.now() >= until) return false
      await clock.sleep(pauseMs, signal).catch(() => undefined)
    }
    return true
  }
}

function toFormat(asked: string | null): StreamFormat {
  if (asked === null || asked === 'deltas' || asked === 'blocks') return asked ?? 'deltas'
  throw new GatewayError('validation_failed', `format: found ${JSON.stringify(asked.slice(0, 40))}; expected deltas or blocks.`, { param: 'format' })
}
