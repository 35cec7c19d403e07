/** One request and the head of its answer, over a connection that is there. */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { Socket } from 'node:net'
import { pipeline, Readable } from 'node:stream'
import { GatewayError } from 'portico'
import type { Outgoing } from './outgoing.ts'

/** What `exchange` works with. */
export interface ExchangeOptions {
  readonly socket: Socket
  readonly maxHeaderBytes: number
  readonly signal: AbortSignal
  /** Called when the request is sent and the answer is still to come. */
  sent(): void
}

const maxInformational = 20

/** Sends the request; settles with the head. Whoever ends the socket ends the rest; a body that breaks off fails the message. */
export function exchange({ url, method, headers, body }: Outgoing, { socket, maxHeaderBytes, signal, sent }: ExchangeOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const lines = { ...Object.fromEntries(headers), host: url.host, ...framing(method, body) }
    const path = `${url.pathname}${url.search}`
    const request = url.protocol === 'https:' ? requestHttps : requestHttp
    const sending = request({ agent: agentOf(socket, url), method, path, headers: lines, maxHeaderSize: maxHeaderBytes })
    let answer: IncomingMessage | undefined
    const fail = (error: unknown) => {
      // What comes after a whole answer harms nobody, but to destroy the message would lose what of it is still unread.
      if (answer?.complete) return
      answer?.destroy(error instanceof Error ? error : undefined)
      sending.destroy()
      reject(error)
    }
    const stop = () => fail(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    sending.once('close', () => signal.removeEventListener('abort', stop))
    sending.on('error', fail)
    sending.once('finish', () => answer ?? sent())
    let informational = 0
    sending.on('information', () => {
      if (++informational > maxInformational) fail(new Error('too many informational answers'))
    })
    sending.once('upgrade', () => fail(new Error('an upgrade that nobody asked for')))
    sending.once('response', (message) => {
      answer = message
      message.on('error', () => undefined)
      resolve(message)
    })
    if (!(body instanceof ReadableStream)) return void sending.end(body)
    pipeline(Readable.from(piecesOf(body, fail)), sending, (error) => {
      // Once there is an answer, a server may well not care for the rest.
      if (error && !answer) fail(error)
    })
  })
}

/** An agent that has this one connection, looks nothing up, and takes no proxy from the environment (Deno has requests without an agent ask for one). */
function agentOf(socket: Socket, { protocol }: URL): HttpAgent {
  const agent = new (protocol === 'https:' ? HttpsAgent : HttpAgent)({ keepAlive: false, proxyEnv: {} })
  return Object.assign(agent, { createConnection: () => socket })
}

/** What the body itself throws is told before it takes the connection with it. */
async function* piecesOf(body: ReadableStream<Uint8Array>, fail: (error: unknown) => void): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    fail(bodyFailed(error))
    throw error
  }
}

function framing(method: string, body: Outgoing['body']): Record<string, string> {
  if (body instanceof ReadableStream) return { 'transfer-encoding': 'chunked' }
  if (body) return { 'content-length': String(body.byteLength) }
  return ['POST', 'PUT', 'PATCH'].includes(method) ? { 'content-length': '0' } : {}
}

/** The caller's own fault, and not the server's. */
function bodyFailed(cause: unknown): GatewayError {
  return new GatewayError('invalid_request', 'The body of the request broke off before its end.', { cause })
}
