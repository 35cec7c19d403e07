/** `/ws`: a connection's messages, its limits and its end. */
import type { Clock, ScopeRef, Socket, SocketRoute } from 'portico'
import type { PlainFrames, RpcConnection } from './contract.ts'
import type { Methods } from './methods.ts'
import { type Answer, codes, failure, isAnswer, parseMessage } from './protocol.ts'
import { Raw } from './subscriptions.ts'

/** How it behaves. */
export interface SocketOptions {
  readonly methods: Methods
  readonly plain: () => readonly PlainFrames[]
  readonly clock: Clock
  readonly scopes: readonly ScopeRef[]
  readonly maxBatchSize: number
  readonly maxMessageBytes: number
  readonly messageRateLimit: { readonly maxMessages: number; readonly windowMs: number }
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
  running = 0
  hasSpoken = false
  /** When its latest messages came, the oldest first. */
  readonly arrivals: number[] = []
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.id = socket.requestId
    this.principal = socket.principal
    this.#socket = socket
  }

  get signal(): AbortSignal {
    return this.end.signal
  }

  notify(method: string, params: unknown): boolean {
    if (this.end.signal.aborted) return false
    const json = params instanceof Raw ? params.json : JSON.stringify(params)
    return this.#socket.send(`{"jsonrpc":"2.0","method":${JSON.stringify(method)},"params":${json}}`)
  }

  send(value: unknown): boolean {
    return !this.end.signal.aborted && this.#socket.send(JSON.stringify(value))
  }
}

/** The route, and the heartbeat of all its connections. */
export function createSocket(options: SocketOptions): { route: SocketRoute; heartbeat(): void; readonly size: number } {
  const { methods, clock, maxBatchSize, messageRateLimit } = options
  const all = new Map<Socket, Connection>()

  /** Of a window that slides. */
  function isOverLimit({ arrivals }: Connection): boolean {
    const now = clock.now()
    while (arrivals.length > 0 && (arrivals[0] ?? 0) <= now - messageRateLimit.windowMs) arrivals.shift()
    if (arrivals.length >= messageRateLimit.maxMessages) return true
    arrivals.push(now)
    return false
  }

  async function answer(connection: Connection, text: string, request: Request): Promise<void> {
    const { isBatch, members } = parseMessage(text, maxBatchSize)
    const { principal, signal } = connection
    const answers = await Promise.all(
      members.map(async (member): Promise<Answer | undefined> => {
        if (isAnswer(member)) return member
        if (connection.running >= maxRunning)
          return member.id === undefined ? undefined : failure(member.id, codes.rate, `${maxRunning} calls are under way on this connection.`)
        connection.running++
        return await methods.call(member, { principal, request, signal, connection }).finally(() => connection.running--)
      }),
    )
    const said = answers.filter((each) => each !== undefined)
    if (said.length > 0) connection.send(isBatch ? said : said[0])
  }

  function openPlain(connection: Connection): void {
    const { principal, signal } = connection
    for (const frames of options.plain()) frames.open({ principal, signal, send: (event, data) => connection.send({ event, data }) })
  }

  const route: SocketRoute = {
    path: '/ws',
    access: options.scopes,
    maxMessageBytes: options.maxMessageBytes,
    open(socket) {
      const connection = new Connection(socket)
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
      if (isOverLimit(connection)) {
        const { maxMessages, windowMs } = messageRateLimit
        connection.send(failure(null, codes.rate, `More than ${maxMessages} messages in ${windowMs} ms: this one was not read.`, { retryAfterMs: windowMs }))
      } else if (typeof data !== 'string') connection.send(failure(null, codes.parse, 'A binary frame is no message: send text.'))
      else await answer(connection, data, socket.request)
    },
    close(socket) {
      all.get(socket)?.end.abort()
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
