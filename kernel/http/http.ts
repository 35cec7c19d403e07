/** The way of a request: context, door, table, gate, limits, body, the group's app under its deadline, and one place for errors. */
import type { GatewayConfig } from '../config/index.ts'
import { Deadlines } from '../contract/deadlines.ts'
import { GatewayError } from '../contract/errors.ts'
import type { KernelStats, RequestRecord } from '../contract/kernel-service.ts'
import type { Clock, Logger } from '../contract/plugin.ts'
import type { AuthMethod } from '../contract/principal.ts'
import { setContext } from '../contract/request.ts'
import type { RuntimePeer as Peer, SocketDoor } from '../runtime/runtime.ts'
import { addressKey, trustedProxies } from './address.ts'
import { limitBody } from './body.ts'
import { Connections } from './connections.ts'
import { Context, type ContextHost } from './context.ts'
import { Door, preflightHeaders } from './door.ts'
import { type ErrorMapping, errorResponse } from './errors.ts'
import { Gate } from './gate.ts'
import { Limiter } from './limiter.ts'
import { finishHeaders } from './response.ts'
import { createSockets } from './sockets.ts'
import { assembleTable, type RouteTable, type Target } from './table.ts'

/** What the room is made from. */
export interface HttpOptions {
  readonly config: GatewayConfig
  /** In order; read at each verification. */
  authMethods(): readonly AuthMethod[]
  readonly log: Logger
  readonly clock: Clock
  readonly boundToLoopback: boolean
  onError(plugin: string, what: string, error: unknown): void
  /** True for errors that mean "the database cannot be reached": answered 503. */
  isUnavailable?(error: unknown): boolean
}

const defaultDeadline = 30_000
const stopRetrySeconds = 5

/** Makes the room; nothing is open before the runtime serves. */
export function createHttp(options: HttpOptions): Http {
  return new Http(options)
}

/** The room. */
export class Http {
  /** What the runtime upgrades sockets through. */
  readonly sockets: SocketDoor
  readonly #options: HttpOptions
  readonly #host: ContextHost
  readonly #connections: Connections
  readonly #deadlines = new Deadlines()
  readonly #door: Door
  readonly #gate: Gate
  readonly #errors: ErrorMapping
  readonly #addressLimit: Limiter | null
  readonly #callerLimit: Limiter | null
  readonly #listeners = new Set<(record: RequestRecord) => void>()
  #table = assembleTable([]).table
  #isClosed = false
  #inFlight = 0
  #total = 0
  #onIdle: (() => void) | undefined

  constructor(options: HttpOptions) {
    const { config, clock } = options
    const now = () => clock.now()
    this.#options = options
    this.#errors = { isUnavailable: (error) => options.isUnavailable?.(error) ?? false, report: (plugin, what, error) => options.onError(plugin, what, error) }
    this.#connections = new Connections(config.maxStreams, this.#errors.report, () => this.#onIdle?.())
    this.#door = new Door({ hosts: config.hosts, corsOrigins: config.corsOrigins })
    this.#gate = new Gate({ authMethods: () => options.authMethods(), allowQueryToken: config.allowQueryToken, deadlines: this.#deadlines, now })
    this.#addressLimit = config.addressRateLimit ? new Limiter({ ...config.addressRateLimit, now }) : null
    this.#callerLimit = config.rateLimit ? new Limiter({ ...config.rateLimit, now }) : null
    this.#host = {
      boundToLoopback: options.boundToLoopback,
      connections: this.#connections,
      isTrustedProxy: trustedProxies(config.trustedProxies),
    }
    this.sockets = createSockets({
      admit: (request, peer) => this.#admitSocket(request, peer),
      refuse: (context, error) => this.#refuse(context, error),
      connections: this.#connections,
      report: this.#errors.report,
    })
  }

  /** The routes in force. */
  get table(): RouteTable {
    return this.#table
  }

  /** Puts other routes in force, for every request that comes from now on. */
  setTable(table: RouteTable): void {
    this.#table = table
  }

  /** After listening: the names this gateway answers to depend on it. */
  setOrigin(host: string, port: number): void {
    this.#door.setOrigin(host, port)
  }

  /** Answers a request. Never rejects. `peer.address` is '' for calls in process. */
  handle(request: Request, peer: Peer): Response | Promise<Response> {
    this.#total++
    this.#inFlight++
    const context = new Context(this.#host, request, peer, this.#options.clock.now())
    const startedAt = this.#listeners.size > 0 ? performance.now() : 0
    let answer: Response | Promise<Response>
    try {
      answer = this.#answer(context)
    } catch (error) {
      answer = this.#fail(context, error)
    }
    return answer instanceof Promise ? this.#inTime(context, answer, startedAt) : this.#finish(context, answer, startedAt)
  }

  /** Ends streams and sockets (4001) of that credential, aborts its requests, drops its cached tokens. */
  revoke(via: string): void {
    this.#gate.revoke(via)
    this.#connections.revoke(via)
  }

  /** New requests are answered 503 from now on. */
  closeIntake(): void {
    this.#isClosed = true
  }

  /** Ends event streams and sockets (1001). */
  endEvents(): void {
    this.#connections.end('events')
  }

  /** Waits for requests without a head and for `work` holds; at the deadline ends them, and gives them half a second more. */
  async drain(deadlineMs: number): Promise<void> {
    const isIdle = () => this.#inFlight === 0 && this.#connections.count('work') === 0
    const waitIdle = (ms: number) => {
      if (isIdle()) return Promise.resolve()
      return new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        this.#onIdle = () => {
          if (!isIdle()) return
          clearTimeout(timer)
          resolve()
        }
      })
    }
    await waitIdle(deadlineMs)
    if (isIdle()) return
    this.#connections.end('work')
    this.#connections.abortAll()
    await waitIdle(500)
  }

  /** Calls the listener for each finished request; returns the undo. */
  onRequest(listener: (record: RequestRecord) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Numbers of now. */
  stats(): KernelStats {
    return {
      gauges: {
        requests_in_flight: this.#inFlight,
        streams_events: this.#connections.count('events'),
        streams_work: this.#connections.count('work'),
        cached_tokens: this.#gate.cached,
        limited_keys: (this.#addressLimit?.size ?? 0) + (this.#callerLimit?.size ?? 0),
        routes: this.#table.routes.length,
      },
      counters: { requests: this.#total },
    }
  }

  #answer(context: Context): Response | Promise<Response> {
    const target = this.#route(context)
    if (target instanceof Response) return target
    const admitted = this.#gate.admit(context, target)
    return admitted instanceof Promise ? admitted.then(() => this.#dispatch(context, target)) : this.#dispatch(context, target)
  }

  /** Finds the target, or answers what is the kernel's own: the index, OPTIONS, preflights. */
  #route(context: Context): Target | Response {
    if (this.#isClosed) {
      throw new GatewayError('unavailable', 'The gateway is stopping; try again.', { retryAfter: stopRetrySeconds, headers: { connection: 'close' } })
    }
    this.#door.admit(context)
    const { path, request } = context
    const { method } = request
    if (method === 'OPTIONS' && request.headers.has('origin') && request.headers.has('access-control-request-method')) {
      return new Response(null, { status: 204, headers: preflightHeaders(request, this.#table.allowed(path)) })
    }
    const target = this.#table.find(method, path)
    context.target = target
    const limit = target?.group.options.unlimited ? null : this.#addressLimit
    if (limit && context.address !== '') this.#count(context, limit, addressKey(context.address), 'this address')
    if (target) return target
    if (path === '/' && (method === 'GET' || method === 'HEAD')) return Response.json({ name: 'portico', surfaces: this.#table.roots })
    return this.#unmatched(context, method)
  }

  #unmatched(context: Context, method: string): Response {
    const { path } = context
    const down = this.#table.down(path)
    const allowed = this.#table.allowed(path)
    if (allowed.length > 0 && method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow: allowed.join(', ') } })
    if (allowed.length > 0) {
      throw new GatewayError('method_not_allowed', `This address takes ${allowed.join(', ')}, not ${method}.`, { headers: { allow: allowed.join(', ') } })
    }
    if (this.#table.find('WS', path)) {
      throw new GatewayError('invalid_request', 'This address speaks WebSocket only; send an upgrade.', { headers: { upgrade: 'websocket' } })
    }
    if (down) {
      // The reason may quote what failed: for the operator at this machine, not for the world.
      const reason = context.loopback || down.state === 'blocked' ? `: ${down.reason}` : ''
      throw new GatewayError('plugin_unavailable', `The plugin "${down.plugin}" is ${down.state}${reason}.`, { retryAfter: stopRetrySeconds })
    }
    throw new GatewayError('not_found', 'There is nothing at this address.')
  }

  #dispatch(context: Context, target: Target): Response | Promise<Response> {
    const { options, app } = target.group
    if (this.#callerLimit && !options.unlimited) this.#count(context, this.#callerLimit, context.callerKey, 'this caller')
    const request = limitBody(context, target, this.#options.config.httpBodyLimitBytes)
    if (options.stream) {
      // The handler of a stream would run without end to learn what HEAD wants to know.
      if (request.method === 'HEAD') return new Response(null, { headers: { 'cache-control': 'no-cache' } })
      context.idleTimeout(0)
    }
    setContext(request, context)
    // A body comes in for as long as its sender likes: a revocation must reach it.
    if (request.method !== 'GET') context.watch()
    return app.fetch(request)
  }

  #count(context: Context, limiter: Limiter, key: string, who: string): void {
    const state = limiter.hit(key)
    if (context.limit === undefined || state.remaining < context.limit.remaining || !state.allowed) context.limit = state
    if (!state.allowed) {
      throw new GatewayError('rate_limit_exceeded', `Too many requests of ${who}; try again in ${state.resetSeconds} s.`, { retryAfter: state.resetSeconds })
    }
  }

  #inTime(context: Context, answer: Promise<Response>, startedAt: number): Promise<Response> {
    return new Promise((resolve) => {
      const wait = this.#deadlines.start(context.target?.group.options.deadline ?? defaultDeadline, () => {
        const error = new GatewayError('deadline_exceeded', 'The answer did not begin in time.')
        context.abort(error)
        context.verdict = error
        resolve(this.#finish(context, failed, startedAt))
      })
      const settle = (response: Response) => {
        if (this.#deadlines.end(wait)) resolve(this.#finish(context, response, startedAt))
        else response.body?.cancel().catch(() => {})
      }
      answer.then(settle, (error) => settle(this.#fail(context, error)))
    })
  }

  /** Keeps the error for `#finish`, where the handler's own failure and the body's verdict are looked at too. */
  #fail(context: Context, error: unknown): Response {
    context.failure ??= error ?? new Error('nothing was thrown')
    return failed
  }

  #finish(context: Context, answer: Response, startedAt: number): Response {
    const error = context.verdict ?? context.failure
    const response = error === undefined ? this.#head(context, answer) : this.#refuse(context, error)
    context.done()
    this.#inFlight--
    if (this.#onIdle) this.#onIdle()
    if (this.#listeners.size > 0) this.#record(context, response, startedAt)
    return response
  }

  #record({ request, target }: Context, { status }: Response, startedAt: number): void {
    const record = {
      method: request.method,
      route: target?.template ?? 'unmatched',
      status,
      seconds: startedAt === 0 ? 0 : (performance.now() - startedAt) / 1000,
    }
    for (const listener of this.#listeners) {
      try {
        listener(record)
      } catch (error) {
        this.#errors.report('kernel', 'a request listener', error)
      }
    }
  }

  /** The same way for an upgrade; the context's target is then the socket's. Throws nothing: refusals are answers. */
  async #admitSocket(request: Request, peer: Peer): Promise<Context | Response> {
    const context = new Context(this.#host, request, peer, this.#options.clock.now())
    try {
      if (this.#isClosed) throw new GatewayError('unavailable', 'The gateway is stopping; try again.', { retryAfter: stopRetrySeconds })
      this.#door.admit(context)
      const target = this.#table.find('WS', context.path)
      if (!target) return this.handle(request, peer)
      context.target = target
      if (this.#addressLimit && context.address !== '') this.#count(context, this.#addressLimit, addressKey(context.address), 'this address')
      await this.#gate.admit(context, target)
      if (this.#callerLimit) this.#count(context, this.#callerLimit, context.callerKey, 'this caller')
      return context
    } catch (error) {
      return this.#refuse(context, error)
    }
  }

  /** A `Response` that was sent before cannot be sent again: a fault of its handler. */
  #head(context: Context, answer: Response): Response {
    try {
      return finishHeaders(context, answer, this.#door.variesByOrigin)
    } catch (error) {
      return this.#refuse(context, error)
    }
  }

  #refuse(context: Context, error: unknown): Response {
    return finishHeaders(context, errorResponse(context, error, this.#errors), this.#door.variesByOrigin)
  }
}

/** Stands where an error is; it is never sent. */
const failed = new Response(null, { status: 500 })
