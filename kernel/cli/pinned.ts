/** Calls a gateway of this machine over https. Who it is is known by its certificate itself: the names in it are others, and its authority may be nobody's. */
import { request } from 'node:https'
import { isIP } from 'node:net'
import { Readable } from 'node:stream'
import { connect, type TLSSocket } from 'node:tls'
import { GatewayError } from '../contract/errors.ts'
import { type Certificate, certificateOf } from './running.ts'

const connectMs = 10_000

/** `fetch`, to whoever shows the certificate that stands in the file now, or stood there at the start; nobody else is sent anything. The body is a string, or none. */
export async function fetchPinned(url: URL, { method, headers, body, signal }: RequestInit, certificate: Certificate): Promise<Response> {
  const socket = await connectPinned(url, certificate)
  const { promise, resolve, reject } = Promise.withResolvers<Response>()
  const sent = request(url.href, {
    ...{ method, headers: { ...Object.fromEntries(new Headers(headers)), connection: 'close' }, signal: signal ?? undefined },
    // It was checked, and more strictly, before the request was made.
    ...{ createConnection: () => socket, rejectUnauthorized: false },
  })
  sent.on('response', (message) => {
    const lines = Object.entries(message.headersDistinct).flatMap(([name, values = []]) => values.map((value): [string, string] => [name, value]))
    const { statusCode: status = 0 } = message
    resolve(
      new Response(status === 204 || status === 304 ? null : (Readable.toWeb(message) as unknown as ReadableStream<Uint8Array>), { status, headers: lines }),
    )
  })
  sent.on('error', reject)
  sent.end(body ?? undefined)
  return await promise
}

function connectPinned({ hostname, port }: URL, { file, fingerprint }: Certificate): Promise<TLSSocket> {
  const host = hostname.replace(/^\[|\]$/g, '')
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
  const servername = isIP(host) === 0 ? host : undefined
  const socket = connect({ host, port: Number(port || 443), servername, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
  socket.setTimeout(connectMs, () => socket.destroy(new Error('the connection was not made in time')))
  socket.on('error', reject)
  socket.once('secureConnect', () => {
    socket.setTimeout(0)
    const { fingerprint256: shown } = socket.getPeerCertificate()
    if (shown === fingerprint || shown === fingerprintNow(file)) return resolve(socket)
    socket.destroy()
    reject(new GatewayError('unavailable', `What answers at ${host}:${port} shows another certificate than ${file}: it is not sent the token.`))
  })
  return promise
}

function fingerprintNow(file: string): string | undefined {
  try {
    return certificateOf(file).fingerprint
  } catch {
    return undefined
  }
}
