/** A real gateway in process, on a real embedded database in a folder of its own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defaultPort, type Gateway } from '../boot/gateway.ts'
import { startGateway } from '../boot/start.ts'
import { createLocalAccess } from '../cli/local-access.ts'
import type { Clock, Logger, Plugin } from '../contract/plugin.ts'
import { type EventTrace, traceEvents } from './event-trace.ts'

/** How the gateway under test is made. */
export interface TestGatewayOptions {
  /** Added to the built-in plugins. */
  plugins?: readonly Plugin[]
  /** Instead of them; the embedded database is added. */
  only?: readonly Plugin[]
  /** TOML. */
  config?: string
  /** Writes `config` to `portico.toml` in the data folder, from where the gateway reads it; default false: there is no file. */
  configFile?: boolean
  env?: Record<string, string>
  clock?: Clock
  /** Default false: called in process. True: on a free port of loopback. */
  listen?: boolean
  /** A folder to keep; default a temporary one, removed by `stop`. */
  dataDir?: string
  /** PostgreSQL instead of the embedded database. */
  databaseUrl?: string
}

/** What `fetch` takes besides the usual. */
export interface TestRequestInit extends RequestInit {
  /** The bearer; default one with all scopes, '' = none. */
  as?: string
}

/** One line of the log. */
export interface LogLine {
  readonly plugin: string
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly properties: Record<string, unknown>
}

/** A gateway under test. */
export interface TestGateway {
  readonly url: string | null
  readonly dataDir: string
  /** A bearer with all scopes. */
  readonly adminToken: string
  readonly gateway: Gateway
  readonly events: EventTrace
  /** What was logged, newest last, at most 10,000 lines. */
  readonly log: readonly LogLine[]
  fetch(path: string, init?: TestRequestInit): Promise<Response>
  /** `fetch`, its answer read as JSON; an object body is sent as JSON. */
  json<T = any>(path: string, init?: Omit<TestRequestInit, 'body'> & { body?: unknown }): Promise<{ status: number; headers: Headers; body: T }>
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Starts one; `stop` it, or declare it with `await using`. */
export async function startTestGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'portico-test-')))
  const log: LogLine[] = []
  if (options.configFile) await writeFile(join(dataDir, 'portico.toml'), configText(options), { mode: 0o600 })
  const { token, options: access } = createLocalAccess({ ...options.env })
  const gateway = await startGateway({
    ...access,
    flags: { dataDir, port: 0 },
    env: { ...options.env },
    cwd: dataDir,
    ...(options.configFile ? {} : { configText: configText(options) }),
    plugins: options.only,
    extraPlugins: options.plugins,
    listen: options.listen ?? false,
    clock: options.clock,
    log: () => (plugin) => recorder(plugin, log),
  })
  const events = traceEvents((listener) => gateway.kernel.subscribeAll(({ event }) => listener(event)))
  const base = gateway.url ?? `http://127.0.0.1:${defaultPort}`
  const send = (path: string, { as = token, ...init }: TestRequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers)
    if (as !== '' && !headers.has('authorization')) headers.set('authorization', `Bearer ${as}`)
    const request = new Request(new URL(path, base), { ...init, headers })
    if (gateway.url) return fetch(request)
    if (!headers.has('host')) request.headers.set('host', new URL(base).host)
    return gateway.fetch(request)
  }
  const stop = async () => {
    events.stop()
    await gateway.stop()
    if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
  }
  return {
    ...{ url: gateway.url, dataDir, adminToken: token, gateway, events, log, stop, fetch: send },
    async json(path, init = {}) {
      const { body, ...rest } = init
      const headers = new Headers(rest.headers)
      if (body !== undefined && !headers.has('content-type')) headers.set('content-type', 'application/json')
      const response = await send(path, { ...rest, headers, body: body === undefined || typeof body === 'string' ? (body as string) : JSON.stringify(body) })
      const text = await response.text()
      return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) }
    },
    [Symbol.asyncDispose]: stop,
  }
}

/** A test does not depend on which model servers run on its machine: nothing is looked for unless it says so. */
function configText({ config = '', databaseUrl, only, configFile }: TestGatewayOptions): string {
  const discovery = only || configFile || config.includes('[discovery') ? '' : '\n[discovery]\nenabled = false\n'
  const database = databaseUrl === undefined ? '' : `\n[database]\nurl = ${JSON.stringify(databaseUrl)}\n`
  return config + discovery + database
}

function recorder(plugin: string, log: LogLine[]): Logger {
  const at =
    (level: LogLine['level']) =>
    (message: string, properties: Record<string, unknown> = {}) => {
      if (log.length >= 10_000) log.shift()
      log.push({ plugin, level, message, properties })
    }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
