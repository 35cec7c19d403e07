/** Listening: plain or with a certificate, which is shown anew when its files change, without ending what is connected. */
import { unwatchFile, watchFile } from 'node:fs'
import { type GatewayConfig, readTls, type TlsFiles } from '../config/index.ts'
import type { Logger } from '../contract/plugin.ts'
import { formatProblem } from '../contract/problem.ts'
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
  readonly log: Logger
}

/** ms between two looks at the files, and from the last change to the reading: one is written after the other. */
const lookMs = 1_000

/** Opens the listener. `close` ends it and what is still connected. */
export async function listen({ http, config, runtime, hooks = {}, log }: ListenOptions): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { host, port, httpBodyLimitBytes: maxBodyBytes, tls: files } = config
  const tls = files && readTls(files)
  const server = await runtime.serve({ host, port, maxBodyBytes, tls, handle: (request, peer) => http.handle(request, peer), hooks })
  http.setOrigin(server.host, server.port, tls !== undefined)
  const unwatch = files && watch(files, () => renew(files))

  async function renew(files: TlsFiles): Promise<void> {
    const { problems, ...pair } = readTls(files)
    if (problems.length > 0) return log.error(`The changed certificate is not used, the one before stays: ${problems.map(formatProblem).join(', ')}`)
    await server.renew(pair).then(
      () => log.info('The changed certificate is in use.'),
      (error: unknown) => log.error('The listener could not be opened with the changed certificate', { error: String(error) }),
    )
  }

  return {
    url: `http${tls ? 's' : ''}://${server.host.includes(':') ? `[${server.host}]` : server.host}:${server.port}`,
    close() {
      unwatch?.()
      return server.close()
    },
  }
}

function watch({ cert, key }: TlsFiles, changed: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout>
  const settle = () => {
    clearTimeout(timer)
    timer = setTimeout(changed, lookMs)
  }
  for (const file of [cert, key]) watchFile(file, { interval: lookMs, persistent: false }, settle)
  return () => {
    clearTimeout(timer)
    for (const file of [cert, key]) unwatchFile(file, settle)
  }
}
