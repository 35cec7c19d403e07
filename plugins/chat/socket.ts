/** `/ws/chat`: messages in, `delta`, `done` and `error` frames out (the frames of AgentZero). */
import { type Clock, contextOf, GatewayError, isGatewayError, type Logger, rpc, type Socket, type SocketRoute, type Static } from 'portico'
import { createMessageWindow, type MessageWindow, type messageRateLimit } from 'portico/plugins/sockets'
import { toAnswer, toErrorFrame } from './routes.ts'
import type { Message, Turn, Turns } from './turns.ts'

/** Messages of one connection that wait for their turn. */
const maxWaiting = 8
const keyPattern = /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$/
const longestMessage = 500_000

interface Conversation {
  /** Every turn of a connection goes on in the session of the one before. */
  sessionKey?: string
  waiting: number
  last: Promise<void>
  readonly window: MessageWindow
  readonly end: AbortController
}

/** How the socket behaves. */
export interface ChatSocketOptions {
  readonly turns: Turns
  readonly log: Logger
  readonly clock: Clock
  readonly messageRateLimit: Static<typeof messageRateLimit>
}

/** The route. One turn after the other; the connection's end ends the turn. */
export function chatSocket({ turns, log, clock, messageRateLimit }: ChatSocketOptions): SocketRoute {
  const of = (socket: Socket) => socket.data.conversation as Conversation
  return {
    path: '/ws/chat',
    access: rpc,
    maxMessageBytes: 2_097_152,
    open(socket) {
      const window = createMessageWindow(messageRateLimit, clock)
      socket.data.conversation = { waiting: 0, last: Promise.resolve(), window, end: new AbortController() } satisfies Conversation
    },
    message(socket, data) {
      const conversation = of(socket)
      const wait = conversation.window.take()
      if (wait > 0) return fail(socket, tooMany(messageRateLimit, wait))
      if (conversation.waiting >= maxWaiting)
        return fail(socket, new GatewayError('rate_limit_exceeded', `${maxWaiting} messages wait already: wait for their answers.`))
      conversation.waiting++
      conversation.last = conversation.last.then(async () => {
        try {
          if (!conversation.end.signal.aborted) await answer(socket, conversation, read(data, socket.request))
        } catch (error) {
          if (!isGatewayError(error) && !conversation.end.signal.aborted) log.error('An answer failed', { requestId: socket.requestId, error })
          fail(socket, error)
        } finally {
          conversation.waiting--
        }
      })
      return conversation.last
    },
    close: (socket) => of(socket).end.abort(),
  }

  async function answer(socket: Socket, conversation: Conversation, message: Message): Promise<void> {
    const turn = await begin(socket, conversation, message)
    conversation.sessionKey = turn.sessionKey
    const pieces = turn.pieces(conversation.end.signal)
    for (;;) {
      const { done, value } = await pieces.next()
      if (done) return send(socket, { type: 'done', ...toAnswer(turn, value) })
      send(socket, { type: 'delta', delta: value })
    }
  }

  /** In the session the message names, else in that of the connection; one that was deleted meanwhile is followed by a new one. */
  async function begin({ principal, request }: Socket, { sessionKey }: Conversation, message: Message): Promise<Turn> {
    if (message.sessionKey !== undefined || sessionKey === undefined) return turns.begin(message, principal, request)
    return turns.begin({ ...message, sessionKey }, principal, request).catch((error: unknown) => {
      if (isGatewayError(error) && error.code === 'not_found' && error.param === 'sessionKey') return turns.begin(message, principal, request)
      throw error
    })
  }
}

function send(socket: Socket, frame: unknown): void {
  socket.send(JSON.stringify(frame))
}

function fail(socket: Socket, error: unknown): void {
  const { message, code, requestId } = toErrorFrame(error, contextOf(socket.request).requestId)
  send(socket, { type: 'error', message, code, requestId, ...(isGatewayError(error) && error.retryAfter ? { retryAfter: error.retryAfter } : {}) })
}

function tooMany({ maxMessages, windowMs }: Static<typeof messageRateLimit>, waitMs: number): GatewayError {
  const retryAfter = Math.ceil(waitMs / 1_000)
  return new GatewayError('rate_limit_exceeded', `More than ${maxMessages} messages in ${windowMs} ms: this one was not read. Send it in ${retryAfter} s.`, {
    retryAfter,
  })
}

/** A frame is the message itself, or JSON with the message in it. */
function read(data: string | Uint8Array, request: Request): Message {
  if (typeof data !== 'string') throw new GatewayError('validation_failed', 'A binary frame is no message: send text, or JSON {"message":"…"}.')
  const override = request.headers.get('x-portico-model') || undefined
  const asked = fromJson(data)
  if (!asked) {
    if (data.trim() === '') throw new GatewayError('validation_failed', 'The message is empty.', { param: 'message' })
    return { message: bounded(data), model: override, channelId: 'ws' }
  }
  const { message, model, sessionKey } = asked
  const wrong = (param: string, expected: string) => new GatewayError('validation_failed', `${param}: expected ${expected}.`, { param })
  if (message === '') throw wrong('message', 'a text that is not empty')
  if (model !== undefined && (typeof model !== 'string' || model === '')) throw wrong('model', 'the name of a model')
  if (sessionKey !== undefined && (typeof sessionKey !== 'string' || !keyPattern.test(sessionKey))) throw wrong('sessionKey', 'sess_…, or a name of your own')
  return { message: bounded(message), model: model ?? override, sessionKey, channelId: 'ws' }
}

function bounded(message: string): string {
  if (message.length <= longestMessage) return message
  throw new GatewayError('validation_failed', `The message is longer than ${longestMessage} characters.`, { param: 'message' })
}

function fromJson(text: string): { message: string; model?: unknown; sessionKey?: unknown } | undefined {
  if (!text.trimStart().startsWith('{')) return undefined
  try {
    const value = JSON.parse(text) as { message?: unknown }
    return typeof value.message === 'string' ? (value as { message: string }) : undefined
  } catch {
    return undefined
  }
}
