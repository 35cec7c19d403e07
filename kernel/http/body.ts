/** Request bodies: their size and their type, judged before anything is read. */
import { GatewayError } from '../contract/errors.ts'
import type { Target } from './compile.ts'
import type { Context } from './context.ts'

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
  const limit = Math.min(target.group.options.bodyLimit ?? gatewayLimit, gatewayLimit)
  if (!isCounted) {
    if (!(Number(length) <= limit)) throw tooLarge(limit)
    return request
  }
  return request.body === null ? request : new Request(request, { body: counted(request.body, limit, context), duplex: 'half' } as RequestInit)
}

function counted(body: ReadableStream<Uint8Array>, limit: number, context: Context): ReadableStream<Uint8Array> {
  let total = 0
  return body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        total += chunk.byteLength
        if (total <= limit) return controller.enqueue(chunk)
        // Elysia would make a 400 of the reader's error: what failed first overrules whatever the handler answers.
        const error = tooLarge(limit)
        context.fail(error)
        controller.error(error)
      },
    }),
  )
}

function tooLarge(limit: number): GatewayError {
  return new GatewayError('body_too_large', `The body is over the limit of ${limit} bytes of this route.`, { details: { limit } })
}
