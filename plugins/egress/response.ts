/** What came back, as a `Response` under the call's limits. The call ends with its body. */
import type { IncomingMessage } from 'node:http'
import { isGatewayError } from 'portico'
import { codingOf, toBody } from './body.ts'
import type { Call } from './call.ts'
import { upstreamError } from './refusal.ts'

/** What `toResponse` works with. */
export interface ResponseOptions {
  /** The address that answered. */
  readonly url: URL
  readonly method: string
  /** How its host is called to the caller. */
  readonly label: string
  readonly maxBytes: number
  readonly isRedirected: boolean
}

/** Statuses without a body (the Fetch standard's null body statuses). */
const withoutBody = [204, 205, 304]

/** Makes it; throws on one that is too long already, or that HTTP does not know. */
export function toResponse(call: Call, message: IncomingMessage, { url, method, label, maxBytes, isRedirected }: ResponseOptions): Response {
  const status = message.statusCode ?? 0
  const isEmpty = method === 'HEAD' || withoutBody.includes(status)
  const tooLong = () =>
    call.refuse({ reason: 'size', message: `The answer of ${label} is longer than ${maxBytes} bytes, which is the limit.`, host: url.hostname })
  const broken = (cause: unknown) => (isGatewayError(cause) ? cause : upstreamError(`The answer of ${label} broke off, or is not what it says it is.`, cause))
  const coding = isEmpty ? null : codingOf(message.headers['content-encoding'])
  if (coding === 'unknown') throw upstreamError(`The answer of ${label} is compressed in a way that nobody asked for.`)
  if (!isEmpty && Number(message.headers['content-length'] ?? 0) > maxBytes) throw tooLong()
  const body = isEmpty ? null : toBody(message, { coding, maxBytes, signal: call.signal, tooLong, broken, end: () => call.end() })
  const response = makeResponse(body, message, coding !== null)
  if (!response) throw upstreamError(`The answer of ${label} has a status or headers that HTTP does not know.`)
  if (isEmpty) call.end()
  return Object.defineProperties(response, { url: { value: url.href }, redirected: { value: isRedirected } })
}

function makeResponse(body: ReadableStream<Uint8Array> | null, message: IncomingMessage, isDecoded: boolean): Response | null {
  try {
    return new Response(body, { status: message.statusCode, statusText: message.statusMessage, headers: headersOf(message, isDecoded) })
  } catch {
    return null
  }
}

/** What belongs to the connection, or tells of a body that is decompressed now, is left out. */
function headersOf({ rawHeaders }: IncomingMessage, isDecoded: boolean): Headers {
  const gone = new Set(['connection', 'keep-alive', 'transfer-encoding', ...(isDecoded ? ['content-encoding', 'content-length'] : [])])
  const headers = new Headers()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = '', value = ''] = [rawHeaders[at], rawHeaders[at + 1]]
    if (!gone.has(name.toLowerCase())) headers.append(name, value)
  }
  return headers
}
