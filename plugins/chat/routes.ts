/** The routes of chat: a turn as JSON or as a stream, what was said, and the sessions. */
import { admin, contextOf, GatewayError, guard, isGatewayError, type Logger, type RouteGroup, rpc, selfReporting, t } from 'portico'
import { encodeSse, sseHeaders } from 'portico/plugins/events'
import type { Runs, Session, SessionMessage, SessionOwner } from 'portico/plugins/runs'
import type { Message, Turn, TurnEnd, Turns } from './turns.ts'

const tags = ['chat']
const tenMinutes = 600_000

/** A session's name: its id, or one of the caller's own. */
export const sessionKey = t.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$', description: 'sess_…, or a name of your own; absent = a new session' })
const modelName = t.String({ minLength: 1, maxLength: 300, description: '`provider/model` or an alias; the header X-Portico-Model beats it' })
const text = t.String({ minLength: 1, maxLength: 500_000 })
const channel = t.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}$', description: 'Where the message came in; default api' })
const agentId = t.String({ maxLength: 200, description: 'Default `default`; GET /api/agents lists yours' })
const body = t.Object({
  message: text,
  agentId: t.Optional(agentId),
  sessionKey: t.Optional(sessionKey),
  model: t.Optional(modelName),
  context: t.Optional(t.Union([t.String(), t.Array(t.String(), { maxItems: 100 })], { description: 'What the model is to know besides' })),
  images: t.Optional(
    t.Array(t.String({ pattern: '^(https?:|data:image/)' }), { maxItems: 10, description: 'URLs; they go to the model with this message only' }),
  ),
  channelId: t.Optional(channel),
})

const tokens = t.Object({ input: t.Integer(), output: t.Integer(), total: t.Integer() })
const answer = t.Object({
  response: t.String(),
  message: t.String({ description: 'The same' }),
  sessionKey: t.String(),
  runId: t.String(),
  model: t.String(),
  tokensUsed: tokens,
  tokens_used_estimate: t.Integer(),
  finishReason: t.String({ description: '`stop`, or what else the provider says' }),
})
const modelHeader = { name: 'X-Portico-Model', in: 'header' as const, required: false, schema: { type: 'string' as const } }
const streamed = {
  responses: {
    200: {
      description: 'Frames `session`, `token {delta, accumulated}`, and at the end one `done` (the answer as of POST /api/chat) or `error`',
      content: { 'text/event-stream': { schema: { type: 'string' as const } } },
    },
  },
}

const streamBody = t.Object({
  ...body.properties,
  accumulated: t.Optional(t.Boolean({ description: 'false = `token` without what there is so far, which makes a long answer much smaller' })),
})

/** A turn, as one answer. */
export function chatRoutes(turns: Turns): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app.post(
        '/api/chat',
        async ({ body, principal, request }) => {
          const context = contextOf(request)
          context.idleTimeout(0)
          const turn = await turns.begin(withModel(body, request), principal, request)
          const pieces = turn.pieces(context.signal)
          for (;;) {
            const { done, value } = await pieces.next()
            if (done) return toAnswer(turn, value)
          }
        },
        {
          body,
          response: answer,
          detail: { operationId: 'chat', summary: 'Send a message, get the whole answer', tags, parameters: [modelHeader] },
        },
      ),
    { deadline: tenMinutes },
  )
}

/** A turn, as it comes. */
export function streamRoutes(turns: Turns, log: Logger): RouteGroup {
  const open = async (message: Message, request: Request, isAccumulated = true) => {
    const turn = await turns.begin(message, contextOf(request).principal, request)
    return new Response(toStream(turn, request, { log, isAccumulated }) as BodyInit, { headers: sseHeaders })
  }
  return guard(
    rpc,
    (app) =>
      app
        .post('/api/chat/stream', ({ body: { accumulated, ...message }, request }) => open(withModel(message, request), request, accumulated), {
          body: streamBody,
          detail: { operationId: 'streamChat', summary: 'Send a message, get the answer as it comes', tags, parameters: [modelHeader], ...streamed },
        })
        .get(
          '/api/chat/stream',
          ({ query: { message, agentId, sessionKey, model, channelId }, request }) =>
            // An EventSource comes again by itself when a stream has ended: the message is not to be sent twice. 204 is what stops it (HTML §9.2.3).
            request.headers.has('last-event-id')
              ? new Response(null, { status: 204 })
              : open(withModel({ message, agentId, sessionKey, model, channelId }, request), request),
          {
            // Other keys pass: the credential of a browser's EventSource stands here too.
            query: t.Object(
              { message: text, agentId: t.Optional(agentId), sessionKey: t.Optional(sessionKey), model: t.Optional(modelName), channelId: t.Optional(channel) },
              { additionalProperties: true },
            ),
            detail: {
              operationId: 'streamChatByQuery',
              summary: 'The same for an EventSource; the message stands in the URL, so prefer POST',
              tags,
              parameters: [modelHeader],
              ...streamed,
            },
          },
        ),
    { stream: true },
  )
}

const moment = t.String({ format: 'date-time' })
const messageView = t.Object({
  id: t.Integer(),
  sessionKey: t.String(),
  channelId: t.String(),
  runId: t.String({ description: 'The run it belongs to' }),
  role: t.Enum(['user', 'assistant']),
  content: t.String(),
  images: t.Array(t.Nullable(t.String()), { description: 'URLs, as they were sent; null in the place of one that was too large to keep (`runs.maxImages`)' }),
  model: t.Nullable(t.String()),
  finishReason: t.Nullable(t.String({ description: 'Of an answer; `cancelled` and `error` say that it is not whole' })),
  createdAt: moment,
})
const sessionView = t.Object({ sessionKey: t.String(), title: t.String(), model: t.String(), channelId: t.String(), createdAt: moment, updatedAt: moment })
const ownerView = t.Object({ principal: t.String(), sessions: t.Integer(), latestAt: moment })
const limit = t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 200, description: 'Default 50' }))

/** What was said. */
export function sessionRoutes(sessions: Runs['sessions']): RouteGroup {
  return guard(rpc, (app) =>
    app
      .get(
        '/api/chat/history',
        async ({ query, principal }) => {
          const { sessionKey, channelId, before } = query
          // A name of one's own may be used for the first time tomorrow; an id that is not there is a mistake.
          if (sessionKey?.startsWith('sess_')) await sessions.find(principal, sessionKey)
          const newest = await sessions.messages(principal, { sessionKey, channel: channelId, before, limit: query.limit ?? 50 })
          return { messages: newest.reverse().map(toMessageView) }
        },
        {
          query: t.Object({
            channelId: t.Optional(channel),
            sessionKey: t.Optional(sessionKey),
            limit,
            before: t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Id of a message: older ones only' })),
          }),
          response: t.Object({ messages: t.Array(messageView) }),
          detail: { operationId: 'chatHistory', summary: 'Your latest messages, oldest first; fewer than `limit` when they are long', tags },
        },
      )
      .get('/api/chat/sessions', async ({ query, principal }) => ({ sessions: (await sessions.list(principal, query.limit ?? 50)).map(toSessionView) }), {
        query: t.Object({ limit }),
        response: t.Object({ sessions: t.Array(sessionView) }),
        detail: { operationId: 'listChatSessions', summary: 'Your sessions, the latest first', tags },
      })
      .delete('/api/chat/sessions/:sessionKey', async ({ params, principal }) => toSessionView(await sessions.remove(principal, params.sessionKey)), {
        params: t.Object({ sessionKey: t.String({ maxLength: 200 }) }),
        response: sessionView,
        detail: { operationId: 'deleteChatSession', summary: 'Delete a session with its messages', tags },
      }),
  )
}

/** Conversations of everybody, also of whoever has no credential any more. */
export function ownerRoutes(sessions: Runs['sessions']): RouteGroup {
  return guard(admin, (app) =>
    app
      .get('/api/chat/principals', async ({ query }) => ({ principals: (await sessions.owners(query.limit ?? 50)).map(toOwnerView) }), {
        query: t.Object({ limit }),
        response: t.Object({ principals: t.Array(ownerView) }),
        detail: { operationId: 'listChatPrincipals', summary: 'Principals with conversations, the latest first', tags },
      })
      .delete(
        '/api/chat/principals/:principal',
        async ({ params: { principal } }) => {
          const deleted = await sessions.forget(principal)
          if (deleted === 0) throw new GatewayError('not_found', 'This principal has no conversations: GET /api/chat/principals lists who has.')
          return { principal, deleted }
        },
        {
          params: t.Object({ principal: t.String({ maxLength: 300 }) }),
          response: t.Object({ principal: t.String(), deleted: t.Integer() }),
          detail: { operationId: 'forgetChatPrincipal', summary: 'Delete all conversations of a principal, with their runs', tags },
        },
      ),
  )
}

/** As `/api/chat` answers for both seeds at once. */
export function toAnswer({ sessionKey, runId, model }: Turn, { text, inputTokens, outputTokens, finishReason }: TurnEnd) {
  const total = inputTokens + outputTokens
  return {
    response: text,
    message: text,
    sessionKey,
    runId,
    model,
    tokensUsed: { input: inputTokens, output: outputTokens, total },
    // A provider that counts nothing: about four characters a token.
    tokens_used_estimate: total || Math.ceil(text.length / 4),
    finishReason,
  }
}

/** An error as the frames say it. */
export function toErrorFrame(error: unknown, requestId: string) {
  const known = isGatewayError(error)
    ? error
    : new GatewayError('internal_error', 'The answer failed in the gateway; its log has the reason.', { cause: error })
  return { code: known.code, message: known.message, requestId }
}

/** Frames that are made when they are read: a reader that does not read holds the upstream up, not the memory. */
function toStream(turn: Turn, request: Request, { log, isAccumulated }: { log: Logger; isAccumulated: boolean }): ReadableStream<Uint8Array> {
  const context = contextOf(request)
  context.idleTimeout(0)
  const end = new AbortController()
  const leave = () => end.abort(context.signal.reason)
  // Who left while the message was stored waits for no answer.
  if (context.signal.aborted) leave()
  context.signal.addEventListener('abort', leave, { once: true })
  const pieces = turn.pieces(end.signal)
  let accumulated = ''
  let reason: GatewayError | undefined
  let release = () => {}
  let isLeft = false
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        release = context.hold('work', (why) => {
          reason =
            why === 'revoked'
              ? new GatewayError('invalid_api_key', 'The credential was revoked; the answer is not whole.')
              : new GatewayError('unavailable', 'The gateway stops; the answer is not whole.')
          end.abort(reason)
        })
        controller.enqueue(encodeSse({ event: 'session', id: turn.runId, data: { sessionKey: turn.sessionKey, runId: turn.runId, model: turn.model } }))
      },
      async pull(controller) {
        try {
          const { done, value } = await pieces.next()
          if (isLeft) return
          if (!done) {
            if (isAccumulated) accumulated += value
            return controller.enqueue(encodeSse({ event: 'token', data: isAccumulated ? { delta: value, accumulated } : { delta: value } }))
          }
          controller.enqueue(encodeSse({ event: 'done', data: toAnswer(turn, value) }))
        } catch (error) {
          if (isLeft) return
          const frame = toErrorFrame(reason ?? error, context.requestId)
          if (frame.code === 'internal_error') log.error('An answer failed', { requestId: context.requestId, error })
          controller.enqueue(encodeSse({ event: 'error', data: frame }))
        }
        release()
        controller.close()
      },
      cancel(why) {
        isLeft = true
        release()
        end.abort(why)
        // Suspended at a piece, it hears of the signal only when it is asked to end.
        pieces.return(undefined as never).catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
  return selfReporting(stream)
}

function withModel(message: Omit<Message, 'channelId'> & { channelId?: string }, request: Request): Message {
  return { ...message, model: request.headers.get('x-portico-model') || message.model, channelId: message.channelId ?? 'api' }
}

function toMessageView({ id, sessionKey, channel, runId, role, text, images, model, finishReason, createdAt }: SessionMessage) {
  return { id, sessionKey, channelId: channel, runId, role, content: text, images: [...images], model, finishReason, createdAt: createdAt.toISOString() }
}

function toSessionView({ key, title, model, channel, createdAt, updatedAt }: Session) {
  return { sessionKey: key, title, model, channelId: channel, createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString() }
}

function toOwnerView({ latestAt, ...owner }: SessionOwner) {
  return { ...owner, latestAt: latestAt.toISOString() }
}
