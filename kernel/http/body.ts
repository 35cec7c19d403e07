/** Request bodies: their size and their type, judged before anything is read. */
import { setTimeout as pause } from 'node:timers/promises'
import { GatewayError } from '../contract/errors.ts'
import type { Target } from './compile.ts'
import type { Context } from './context.ts'

/** Bytes of a JSON body, unless its group says otherwise: parsing, checking and refusing one takes the loop some 100 ms a MB. */
const jsonLimit = 1_048_576

/** Throws 413 or 415. A body that announces no length is counted while it streams: the returned request is then another object, and is the one to hand on. */
export function limitBody(context: Context, target: Target, gatewayLimit: number): Request {
  const { request } = context
  const { headers, method } = request
  const hasNone = method === 'GET' || method === 'HEAD'
  const length = headers.get('content-length')
  const isChunked = headers.has('transfer-encoding')
  if (isChunked && (hasNone || length !== null)) throw new GatewayError('invalid_request', 'Transfer-Encoding does not belong here.')
  // In process and over HTTP/2 nothing need announce a length.
  const { isLocal, isHttp2 = false } = context.peer
  const isCounted = isChunked || (length === null && !hasNone && (isLocal === undefined || isHttp2) && request.body !== null)
  if (!isCounted && (length === null || length === '0')) return request
  const type = headers.get('content-type')
  // What Deno shows as the body of HTTP/2 may be none.
  if (target.takesJson && !hasNone && !(isHttp2 && type === null) && !/^application\/json\s*(;|$)/i.test(type ?? '')) {
    throw new GatewayError('unsupported_media_type', 'This route takes JSON; send Content-Type: application/json.')
  }
  const limit = Math.min(target.group.options.bodyLimit ?? (target.takesJson ? jsonLimit : gatewayLimit), gatewayLimit)
  if (!isCounted) {
    if (!(Number(length) <= limit)) throw tooLarge(limit)
    return request
  }
  return request.body === null ? request : new Request(request, { body: counted(request.body, limit, context), duplex: 'half' } as RequestInit)
}

function counted(body: ReadableStream<Uint8Array>, limit: number, context: Context): ReadableStream<Uint8Array> {
  let total = 0
  let chunks = 0
  return body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        total += chunk.byteLength
        // Elysia would make a 400 of the reader's error: what failed first overrules whatever the handler answers.
        if (total > limit) context.fail(tooLarge(limit))
        if (context.failure !== undefined) return controller.error(context.failure)
        // On Deno each chunk is a view of 64 kB: 100 kB that came a byte at a time held 5 GB.
        controller.enqueue(chunk.byteLength * 2 < chunk.buffer.byteLength ? chunk.slice() : chunk)
        // Nor does it turn the loop between chunks that are there: those 100 kB would hold everybody up for seconds.
        return ++chunks % 128 === 0 ? pause(0) : undefined
      },
    }),
  )
}

function tooLarge(limit: number): GatewayError {
  return new GatewayError('body_too_large', `The body is over the limit of ${limit} bytes of this route.`, { details: { limit } })
}
