/** Listening: plain, or with a certificate. */
import type { GatewayConfig } from '../config/index.ts'
import { GatewayError } from '../contract/errors.ts'
import { type Certificates, certificates } from '../contract/listener.ts'
import type { SocketServer } from '../contract/socket.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { Http } from './http.ts'

/** What listens. */
export interface ListenOptions {
  readonly http: Http
  readonly config: GatewayConfig
  readonly runtime: Runtime
  /** Of sockets. */
  readonly hooks?: SocketServer['hooks']
  readonly certificates: Certificates | undefined
}

/** Opens the listener. `close` ends it and what is still connected. */
export async function listen({
  http,
  config,
  runtime,
  hooks = {},
  certificates: known,
}: ListenOptions): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { host, port, httpBodyLimitBytes: maxBodyBytes, tls: files } = config
  if (files && !known) throw new GatewayError('plugin_failed', `gateway.tls is set, and what shows certificates, "${certificates.id}", is not running.`)
  const tls = files && known?.open(files, (pair) => server.renew(pair))
  const server = await runtime.serve({ host, port, maxBodyBytes, tls, handle: (request, peer) => http.handle(request, peer), hooks })
  http.setOrigin(server.host, server.port, tls !== undefined)
  return {
    url: `http${tls ? 's' : ''}://${server.host.includes(':') ? `[${server.host}]` : server.host}:${server.port}`,
    close: () => server.close(),
  }
}
