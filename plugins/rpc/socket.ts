/** `/ws`: a connection's messages, its limits and its end. */
import type { Clock, ScopeRef, Socket, SocketRoute, Static } from 'portico'
import { createMessageWindow, type MessageWindow, type messageRateLimit } from 'portico/plugins/sockets'
import type { PlainFrames, RpcConnection } from './contract.ts'
import type { Methods } from './methods.ts'
import { codes, failure, isAnswer, parseMessage } from './protocol.ts'
import { Raw } from './subscriptions.ts'

/** How it behaves. */
export interface SocketOptions {
  readonly methods: Methods
  readonly plain: () => readonly PlainFrames[]
  readonly clock: Clock
  readonly scopes: readonly ScopeRef[]
  readonly maxBatchSize: number
  readonly maxMessageBytes: number
  readonly messageRateLimit: Static<typeof messageRateLimit>
}

/** Calls of one connection that are under way. */
const maxRunning = 64
/** ms of silence after which a client counts as one that speaks no JSON-RPC. */
const patienceMs = 1_000

/** One connection. */
class Connection implements RpcConnection {
  readonly id: string
  readonly principal: RpcConnection['principal']
  readonly end = new AbortController()
  /** Calls under way. */
  readonly calls = new Set<AbortController>()
  hasSpoken = false
  readonly window: MessageWindow
  readonly #socket: Socket

  constructor(socket: Socket, window: MessageWindow) {
    this.window = window
    this.id = socket.requestId
    this.principal = socket.principal
    this.#socket = socket
  }

  get signal(): AbortSignal {
    return this.end.signal
  }

  get behind(): number {
    return this.#socket.behind
  }

  notify(method: string, params: unknown): boolean {
    if (this.end.signal.aborted) return false
    const json = params instanceof Raw ? params.json : JSON.stringify(params)
    return this.#socket.send(`{"jsonrpc":"2.0","method":${JSON.stringify(method)},"params":${json}}`)
  }

  /** JSON. */
  send(text: string): boolean {
    return !this.end.signal.aborted && this.#socket.send(text)
  }

  /** Ends it and its calls. */
  over(): void {
    this.end.abort()
    for (const call of this.calls) call.abort()
  }
}

/** The route, and the heartbeat of all its connections. */
export function createSocket(options: SocketOptions): { route: SocketRoute; heartbeat(): void; readonly size: number } {
  const { methods, clock, maxBatchSize, messageRateLimit } = options
  const all = new Map<Socket, Connection>()

  async function answer(connection: Connection, text: string, request: Request): Promise<void> {
    const { isBatch, members } = parseMessage(text, maxBatchSize)
    const { promise: answered, resolve: done } = Promise.withResolvers<void>()
    const answers = await Promise.all(
      members.map(async (member): Promise<string | undefined> => {
        if (isAnswer(member)) return JSON.stringify(member)
        const { principal, calls } = connection
        if (calls.size >= maxRunning)
          return member.id === undefined ? undefined : JSON.stringify(failure(member.id, codes.rate, `${maxRunning} calls are under way on this connection.`))
        const call = new AbortController()
        calls.add(call)
        return await methods.call(member, { principal, request, signal: call.signal, answered, connection }).finally(() => {
          calls.delete(call)
          call.abort()
        })
      }),
    )
    const said = answers.filter((each) => each !== undefined)
    if (said.length > 0) connection.send(isBatch ? `[${said.join()}]` : `${said[0]}`)
    done()
  }

  function openPlain(connection: Connection): void {
    const { principal, signal } = connection
    for (const frames of options.plain()) frames.open({ principal, signal, send: (event, data) => connection.send(JSON.stringify({ event, data })) })
  }

  const route: SocketRoute = {
    path: '/ws',
    access: options.scopes,
    maxMessageBytes: options.maxMessageBytes,
    open(socket) {
      const connection = new Connection(socket, createMessageWindow(messageRateLimit, clock))
      all.set(socket, connection)
      if (new URL(socket.request.url).searchParams.get('protocol') === 'events') return openPlain(connection)
      if (options.plain().length === 0) return
      void clock.sleep(patienceMs, connection.signal).then(
        () => connection.hasSpoken || openPlain(connection),
        () => undefined,
      )
    },
    async message(socket, data) {
      const connection = all.get(socket)
      if (!connection) return
      connection.hasSpoken = true
      const refuse = (...why: [code: typeof codes.rate | typeof codes.parse, why: string, more?: object]) =>
        connection.send(JSON.stringify(failure(null, ...why)))
      const wait = connection.window.take()
      if (wait > 0) {
        const { maxMessages, windowMs } = messageRateLimit
        refuse(codes.rate, `More than ${maxMessages} messages in ${windowMs} ms: this one was not read.`, { retryAfter: Math.ceil(wait / 1_000) })
      } else if (typeof data !== 'string') refuse(codes.parse, 'A binary frame is no message: send text.')
      else await answer(connection, data, socket.request)
    },
    close(socket) {
      all.get(socket)?.over()
      all.delete(socket)
    },
  }
  return {
    route,
    heartbeat() {
      for (const connection of all.values()) connection.notify('heartbeat', { ts: clock.now() })
    },
    get size() {
      return all.size
    },
  }
}
