/** Listening: plain or with a certificate, which is shown anew when its files change, without ending what is connected. */
import { statSync } from 'node:fs'
import { type GatewayConfig, readTls, type TlsFiles } from '../config/index.ts'
import type { Logger } from '../contract/plugin.ts'
import { formatProblem } from '../contract/problem.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { Http } from './http.ts'

/** What listens. */
export interface ListenOptions {
  readonly http: Http
  readonly config: GatewayConfig
  readonly runtime: Runtime
  readonly log: Logger
}

/** ms between two looks at the files. */
const lookMs = 1_000

/** Opens the listener. `close` ends it and what is still connected. */
export async function listen({ http, config, runtime, log }: ListenOptions): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { host, port, httpBodyLimitBytes: maxBodyBytes, tls: files } = config
  const look = files && createLook(files)
  const tls = files && readTls(files)
  const server = await runtime.serve({ host, port, maxBodyBytes, tls, handle: (request, peer) => http.handle(request, peer), hooks: http.hooks })
  http.setOrigin(server.host, server.port, tls !== undefined)
  const renew = async (files: TlsFiles) => {
    const { problems, ...pair } = readTls(files)
    if (problems.length > 0) return log.error(`The changed certificate is not used, the one before stays: ${problems.map(formatProblem).join(', ')}`)
    await server.renew(pair).then(
      () => log.info('The changed certificate is in use.'),
      (error: unknown) => log.error('The listener could not be opened with the changed certificate', { error: String(error) }),
    )
  }
  const timer = files && look && setInterval(() => look() && void renew(files), lookMs)
  timer?.unref()
  const close = () => {
    clearInterval(timer)
    return server.close()
  }
  return { url: `http${tls ? 's' : ''}://${server.host.includes(':') ? `[${server.host}]` : server.host}:${server.port}`, close }
}

/** A look that is true once for each change of the files, when it is over: one is written after the other. */
function createLook(files: TlsFiles): () => boolean {
  const stamp = () =>
    [files.cert, files.key].map((file) => {
      const { ino, mtimeMs, size } = statSync(file, { throwIfNoEntry: false }) ?? {}
      return `${ino} ${mtimeMs} ${size}`
    })
  const now = () => {
    try {
      return stamp().join()
    } catch {
      return 'unreadable'
    }
  }
  let judged = now()
  let seen = judged
  return () => {
    const before = seen
    seen = now()
    if (seen !== before || seen === judged) return false
    judged = seen
    return true
  }
}
