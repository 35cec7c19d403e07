/** Calls the gateway for the commands: the running one over HTTP, else the same app in this process, without a listener. */
import { type ConfigFlags, readConfig } from '../config/index.ts'
import { type ErrorCode, errorTable, GatewayError, isGatewayError } from '../contract/errors.ts'
import { createLocalAccess } from './local-access.ts'
import { fetchPinned } from './pinned.ts'
import { findRunning, type RunningGateway } from './running.ts'

/** Where a client looks. */
export interface ClientOptions {
  readonly flags: ConfigFlags
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly signal: AbortSignal
  /** Told once, when the app is opened in this process. */
  opened(): void
}

/** A way to call the gateway. */
export interface Client {
  fetch(path: string, init?: RequestInit): Promise<Response>
  /** JSON to JSON; a status of 400 or more throws what the gateway said. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>
  close(): Promise<void>
}

interface InProcess {
  readonly token: string
  fetch(request: Request): Promise<Response>
  stop(): Promise<void>
}

/** Makes the client. Nothing is looked for, opened or imported before the first call. */
export function createClient(options: ClientOptions): Client {
  let beside = false
  let opening: Promise<InProcess> | undefined

  const send = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const { dataDir } = readConfig(options)
    // Looked up for each call: a gateway that was started anew has another port and token.
    const running = opening === undefined ? findRunning(dataDir) : null
    if (running) {
      beside = true
      return await call(running, path, init, options.signal)
    }
    if (beside) throw new GatewayError('unavailable', 'The gateway has stopped. Start it again: portico start')
    opening ??= open(options)
    const gateway = await opening
    const headers = new Headers(init.headers)
    headers.set('authorization', `Bearer ${gateway.token}`)
    return await gateway.fetch(new Request(new URL(path, 'http://127.0.0.1:4766'), { signal: options.signal, ...init, headers }))
  }

  return {
    fetch: send,
    async request<T>(method: string, path: string, body?: unknown): Promise<T> {
      const init = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
      const response = await send(path, { method, ...init })
      const text = await response.text()
      if (!response.ok) throw toError(response, text)
      return (text === '' ? undefined : JSON.parse(text)) as T
    },
    async close() {
      // A start that failed has been reported by the call that began it.
      const gateway = await opening?.catch(() => undefined)
      await gateway?.stop()
    },
  }
}

async function open(options: ClientOptions): Promise<InProcess> {
  const { startGateway } = await import('../boot/start.ts')
  const { token, options: access } = createLocalAccess(options.env)
  options.opened()
  const gateway = await startGateway({ flags: { ...options.flags, port: 0 }, env: options.env, cwd: options.cwd, listen: false, ...access })
  return { ...gateway, token }
}

async function call({ url, token, certificate }: RunningGateway, path: string, init: RequestInit, signal: AbortSignal): Promise<Response> {
  const headers = new Headers(init.headers)
  headers.set('authorization', `Bearer ${token}`)
  try {
    const all: RequestInit = { signal, ...init, headers, redirect: 'error' }
    return await (certificate ? fetchPinned(new URL(path, url), all, certificate) : fetch(new URL(path, url), all))
  } catch (error) {
    throw signal.aborted || isGatewayError(error)
      ? error
      : new GatewayError('unavailable', `The gateway at ${url} does not answer. See whether it runs: portico status`, { cause: error })
  }
}

/** What an answer of 400 or more says, as an error. */
export function toError(response: Response, text: string): GatewayError {
  let said: { code?: unknown; message?: unknown; details?: unknown } = {}
  try {
    said = (JSON.parse(text) as { error?: typeof said }).error ?? {}
  } catch {
    // Not the envelope: the status has to do.
  }
  const code = typeof said.code === 'string' && Object.hasOwn(errorTable, said.code) ? (said.code as ErrorCode) : 'upstream_error'
  return new GatewayError(code, typeof said.message === 'string' ? said.message : `The gateway answered ${response.status}.`, { details: said.details })
}
