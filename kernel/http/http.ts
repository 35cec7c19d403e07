/** The way of a request: context, door, table, gate, limits, body, the group's app under its deadline, and one place for errors. */
import type { GatewayConfig } from '../config/index.ts'
import { Deadlines } from '../contract/deadlines.ts'
import type { Door } from '../contract/door.ts'
import { GatewayError } from '../contract/errors.ts'
import type { KernelStats, RequestRecord } from '../contract/kernel-service.ts'
import type { RequestLimit, StreamLimit } from '../contract/limits.ts'
import { type Proxies, plainAddress } from '../contract/listener.ts'
import type { Clock } from '../contract/plugin.ts'
import type { Gatekeeper } from '../contract/principal.ts'
import { setContext } from '../contract/request.ts'
import { type SocketRoute, type SocketServer, socketServer } from '../contract/socket.ts'
import type { AnswerWatch } from '../contract/stream.ts'
import type { RuntimePeer as Peer } from '../runtime/runtime.ts'
import { limitBody } from './body.ts'
import type { CompiledGroup, Target } from './compile.ts'
import { Connections } from './connections.ts'
import { Context, type ContextHost } from './context.ts'
import { type ErrorMapping, errorResponse } from './errors.ts'
import { finishHeaders } from './response.ts'
import { assembleTable } from './table.ts'

/** What the room is made from. */
export interface HttpOptions extends ErrorMapping {
  readonly config: GatewayConfig
  /** In order; read at each request. */
  requestLimits(): readonly RequestLimit[]
  streamLimits(): readonly StreamLimit[]
  /** Undefined while nothing makes sockets. */
  socketServer(): SocketServer | undefined
  readonly clock: Clock
  readonly boundToLoopback: boolean
}

const stopRetrySeconds = 5

/** The room. Nothing is open before the runtime serves. */
export class Http {
  /** The routes in force. Others may be put in their place, for every request that comes from then on. */
  table = assembleTable([]).table
  /** Who looks after streams. */
  answers: AnswerWatch | undefined
  /** Who lets in. Without it, or without a door, nobody is answered. */
  gatekeeper: Gatekeeper | undefined
  readonly #options: HttpOptions
  readonly #host: ContextHost
  readonly #connections: Connections
  readonly #underWay = new Deadlines<Context>()
  #config: GatewayConfig
  #door: Door | undefined
  #proxies: Proxies | undefined
  #place = { host: '', port: 0, isTls: false }
  readonly #listeners = new Set<(record: RequestRecord) => void>()
  #isClosed = false
  #total = 0

  constructor(options: HttpOptions) {
    const { config, boundToLoopback } = options
    this.#options = options
    this.#config = config
    this.#connections = new Connections({ limits: options.streamLimits, maxStreams: () => this.#config.maxStreams, report: options.onError })
    this.#host = { boundToLoopback, connections: this.#connections, clientAddress: null }
    this.proxies = undefined
  }

  /** After listening: the names this gateway answers to depend on it. */
  setOrigin(host: string, port: number, isTls = false): void {
    this.#place = { host, port, isTls }
    this.door = this.#door
  }

  /** Who knows trusted proxies. Where some are trusted nobody is near by his address alone, whether or not somebody knows them. */
  set proxies(known: Proxies | undefined) {
    this.#proxies = known
    const { trustedProxies } = this.#config
    this.#host.clientAddress = trustedProxies.length === 0 ? null : (known?.trust(this.#config) ?? plainAddress)
  }

  /** What each request passes first. */
  set door(door: Door | undefined) {
    this.#door = door
    door?.place({ ...this.#config, ...this.#place })
  }

  /** Answers a request, or upgrades it. Never rejects. `peer.address` is '' for calls in process. */
  handle(request: Request, peer: Peer): Response | Promise<Response> {
    this.#total++
    const context = new Context(this.#host, request, peer, this.#options.clock.now())
    this.#underWay.add(context)
    let answer: Response | Promise<Response>
    try {
      answer = this.#answer(context)
    } catch (error) {
      answer = context.fail(error)
    }
    if (answer instanceof Promise) return this.#inTime(context, answer)
    this.#underWay.delete(context)
    return this.#finish(context, answer)
  }

  /** Ends streams and sockets (4001) of that credential, aborts its requests, drops its cached tokens. */
  revoke(via: string): void {
    this.gatekeeper?.revoke(via)
    this.#connections.end('revoked', ({ context }) => context.principal.via === via)
    for (const context of this.#underWay) if (context.principal.via === via) context.revoke()
  }

  /** New requests are answered 503 from now on; event streams and sockets end (1001). */
  closeIntake(): void {
    this.#isClosed = true
  }

  /**
   * Ends event streams and sockets (1001) at once; waits for requests without a head and for `work` holds, at the deadline ends them, and gives them half a
   * second more. With `groups` it is about what these have begun, and nothing else.
   */
  async drain(deadlineMs: number, groups?: ReadonlySet<CompiledGroup>): Promise<void> {
    const isMeant = ({ target }: Context) => !groups || (target !== undefined && groups.has(target.group))
    this.#connections.end('stopping', ({ kind, context }) => kind === 'events' && isMeant(context))
    if (await this.#isIdle(deadlineMs, isMeant)) return
    this.#connections.end('stopping', ({ context }) => isMeant(context))
    for (const context of this.#underWay) if (isMeant(context)) context.abort(new GatewayError('unavailable', 'The gateway is stopping.'))
    await this.#isIdle(500, isMeant)
  }

  /** Takes what may change while the gateway runs. */
  configure(config: GatewayConfig): void {
    this.#config = config
    this.door = this.#door
    this.proxies = this.#proxies
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
        requests_in_flight: this.#underWay.size,
        streams_events: this.#connections.count('events'),
        streams_work: this.#connections.count('work'),
        routes: this.table.routes.length,
      },
      counters: { requests: this.#total },
    }
  }

  /** Whether nothing is under way any more, at the latest after `ms`. */
  async #isIdle(ms: number, isMeant: (context: Context) => boolean): Promise<boolean> {
    const isIdle = () => ![...this.#underWay].some(isMeant) && !this.#connections.some(({ kind, context }) => kind === 'work' && isMeant(context))
    for (const until = performance.now() + ms; !isIdle() && performance.now() < until; ) await new Promise((resolve) => setTimeout(resolve, 10))
    return isIdle()
  }

  #answer(context: Context): Response | Promise<Response> {
    if (this.#isClosed || !this.#door || !this.gatekeeper) {
      throw new GatewayError('unavailable', 'The gateway takes no requests now; try again.', { retryAfter: stopRetrySeconds, headers: { connection: 'close' } })
    }
    const answer = this.#door.admit(context, this.table)
    if (answer) return answer
    const { path, peer, request } = context
    const { method, headers } = request
    const isUpgrade = peer.upgrade !== undefined && headers.get('upgrade')?.toLowerCase() === 'websocket'
    const target = (isUpgrade && this.table.find('WS', path)) || this.table.find(method, path)
    context.target = target
    const { deadline, unlimited } = target?.group.options ?? {}
    if (deadline !== undefined) context.dueAt = context.begun + deadline
    const limits = unlimited ? [] : this.#options.requestLimits()
    const admitted = limits.length > 0 ? this.#limited(context, limits) : target && this.#admit(context, target)
    return admitted instanceof Promise ? admitted.then(() => this.#dispatch(context)) : this.#dispatch(context)
  }

  async #limited(context: Context, limits: readonly RequestLimit[]): Promise<void> {
    for (const limit of limits) await limit.arrived?.(context)
    if (!context.target) return
    await this.#admit(context, context.target)
    for (const limit of limits) await limit.admitted?.(context)
  }

  #admit(context: Context, target: Target): void | Promise<void> {
    return (this.gatekeeper as Gatekeeper).admit(context, target, this.#config.allowQueryToken)
  }

  /** What is the kernel's own: OPTIONS, and why there is nothing. */
  #unmatched(context: Context): Response {
    const { path, request } = context
    const { method } = request
    const allow = this.table.allowed(path).join(', ')
    if (allow !== '' && method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow } })
    if (allow !== '') throw new GatewayError('method_not_allowed', `This address takes ${allow}, not ${method}.`, { headers: { allow } })
    if (this.table.find('WS', path)) {
      throw new GatewayError('invalid_request', 'This address speaks WebSocket only; send an upgrade.', { headers: { upgrade: 'websocket' } })
    }
    const down = this.table.down(path)
    if (!down) throw new GatewayError('not_found', 'There is nothing at this address.')
    // The reason may quote what failed: for the operator at this machine, not for the world.
    const reason = context.loopback || down.state === 'blocked' ? `: ${down.reason}` : ''
    throw new GatewayError('plugin_unavailable', `The plugin "${down.plugin}" is ${down.state}${reason}.`, { retryAfter: stopRetrySeconds })
  }

  #dispatch(context: Context): Response | Promise<Response> {
    const { target } = context
    if (!target) return this.#unmatched(context)
    const { options, app } = target.group
    if (!app) return this.#upgrade(context, target)
    const request = limitBody(context, target, this.#config.httpBodyLimitBytes)
    if (options.stream) {
      // The handler of a stream would run without end to learn what HEAD wants to know.
      if (request.method === 'HEAD') return new Response(null, { headers: { 'cache-control': 'no-cache' } })
      context.idleTimeout(0)
    }
    setContext(request, context)
    return app.fetch(request)
  }

  #upgrade(context: Context, { group, socket, template }: Target): Promise<Response> {
    const server = this.#options.socketServer()
    if (!server) throw new GatewayError('plugin_unavailable', `What makes sockets, "${socketServer.id}", is not running.`, { retryAfter: stopRetrySeconds })
    // The runtimes' own request is spent by the upgrade.
    const request = new Request(context.url, { headers: context.request.headers })
    setContext(request, context)
    return server.upgrade({
      ...{ context, request, route: socket as SocketRoute },
      accept: async (carried) => context.peer.upgrade?.(carried),
      report: (what, error) => this.#options.onError(group.plugin, `socket ${template} ${what}`, error),
    })
  }

  #inTime(context: Context, answer: Promise<Response>): Promise<Response> {
    return new Promise((resolve) => {
      const settle = (response: Response) => {
        if (this.#underWay.delete(context)) resolve(this.#finish(context, response))
        else response?.body?.cancel().catch(() => {})
      }
      context.expire = () => {
        const late = new GatewayError('deadline_exceeded', 'The answer did not begin in time.')
        context.abort(late)
        resolve(this.#finish(context, context.fail(late)))
      }
      answer.then(settle, (error) => settle(context.fail(error)))
    })
  }

  #finish(context: Context, answer: Response): Response {
    let response: Response
    try {
      const whole = context.failure === undefined ? (this.answers?.watch(answer, context) ?? answer) : errorResponse(context, this.#options)
      response = finishHeaders(context, whole)
    } catch (error) {
      // It was sent before and cannot be sent again: a fault of its handler.
      context.fail(error)
      response = finishHeaders(context, errorResponse(context, this.#options))
    }
    if (this.#listeners.size > 0) this.#record(context, response)
    return response
  }

  #record(context: Context, response: Response | undefined): void {
    context.status = response?.status ?? 101
    context.seconds = (performance.now() - context.begun) / 1000
    for (const listener of this.#listeners) {
      try {
        listener(context)
      } catch (error) {
        this.#options.onError('kernel', 'a request listener', error)
      }
    }
  }
}
