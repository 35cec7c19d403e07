/** The routes of events: the stream, the recent past, tickets. */
import { GatewayError, type GatewayEvent, guard, type Kernel, type RouteGroup, rpc, t } from 'portico'
import type { EventLog } from 'portico/plugins/event-log'
import { sseHeaders } from './sse.ts'
import type { Streams } from './streams.ts'
import { toTicketPath } from './ticket-path.ts'
import type { Tickets } from './tickets.ts'
import { createEventView } from './view.ts'

const tags = ['events']
const types = t.Optional(t.String({ maxLength: 2_000, description: 'Patterns, separated by commas: message:*,key:created' }))

/** `GET /api/events`. */
export function streamRoutes(streams: Streams): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app.get(
        '/api/events',
        ({ query, request, principal }) => {
          const since = request.headers.get('last-event-id') || query.since || undefined
          return new Response(streams.open({ principal, request, types: toPatterns(query.types), since, envelope: query.envelope }), {
            headers: sseHeaders,
          })
        },
        {
          // Other keys pass: the credential of a browser's EventSource stands here too.
          query: t.Object(
            {
              types,
              since: t.Optional(t.String({ description: 'A cursor <ms>-<n>: what came after it is sent first; Last-Event-ID beats it; neither = from now' })),
              envelope: t.Optional(t.Enum(['payload', 'cloudevents'], { description: 'What data: holds; default payload' })),
            },
            { additionalProperties: true },
          ),
          detail: {
            operationId: 'streamEvents',
            summary: 'Watch events as they happen, and resume where you stopped',
            description:
              'Server-Sent Events. First `event: ready` with the cursor, then named events, `id:` on durable ones. `/asyncapi.json` lists the types.',
            tags,
            responses: { 200: { description: 'The stream', content: { 'text/event-stream': { schema: { type: 'string' } } } } },
          },
        },
      ),
    { stream: true },
  )
}

const entry = t.Object({
  id: t.String({ description: 'Its cursor' }),
  uid: t.String(),
  type: t.String(),
  time: t.String({ format: 'date-time' }),
  source: t.String(),
  subject: t.Optional(t.String()),
  data: t.Unknown(),
})

/** `GET /api/activity` and `POST /api/tickets`. */
export function activityRoutes(kernel: Kernel, eventLog: EventLog, tickets: Tickets): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app
        .get(
          '/api/activity',
          async ({ query, principal }) => {
            const types = toPatterns(query.types)
            const filter = createEventView(kernel, principal, types).filter()
            // Administrators are shown types that no plugin owns now as well.
            const events = await eventLog.newest(query.limit ?? 50, filter.principal === null && !types ? { types: null, principal: null } : filter)
            const entries = events.map(({ event }) => toEntry(event))
            return { entries, count: entries.length }
          },
          {
            query: t.Object({ limit: t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 100, description: 'Default 50' })), types }),
            response: t.Object({ entries: t.Array(entry), count: t.Integer() }),
            detail: { operationId: 'listActivity', summary: 'The latest durable events, newest first', tags },
          },
        )
        .post(
          '/api/tickets',
          async ({ body, principal, set }) => {
            const { pathname, search } = toTicketPath(body.path, principal, kernel.routes())
            const { ticket, expiresAt } = await tickets.create(pathname, principal)
            search.set('ticket', ticket)
            set.headers['cache-control'] = 'no-store'
            return { ticket, url: `${pathname}?${search}`, expiresAt: expiresAt.toISOString() }
          },
          {
            body: t.Object({ path: t.String({ minLength: 1, maxLength: 2_000, description: 'An absolute path of this gateway; a query is kept' }) }),
            response: t.Object({
              ticket: t.String(),
              url: t.String({ description: 'The path with ?ticket=' }),
              expiresAt: t.String({ format: 'date-time', description: 'Until when it must be used first' }),
            }),
            detail: { operationId: 'createTicket', summary: 'A ticket for one stream or socket, to be put into its URL', tags },
          },
        ),
    // The longest path, every letter of it escaped.
    { bodyLimit: 16_384 },
  )
}

function toPatterns(text: string | undefined): string[] | undefined {
  if (text === undefined) return undefined
  const patterns = text
    .split(',')
    .map((pattern) => pattern.trim())
    .filter((pattern) => pattern !== '')
  const wrong = patterns.find((pattern) => !/^(\*|[a-z0-9_.-]+:(\*|[a-z0-9_.-]+))$/.test(pattern))
  if (wrong !== undefined)
    throw new GatewayError('validation_failed', `types: ${JSON.stringify(wrong)} is no pattern; write message:*, key:created or *.`, { param: 'types' })
  return patterns.length > 0 ? patterns : undefined
}

function toEntry({ id = '', uid, type, time, source, subject, data }: GatewayEvent) {
  return { id, uid, type, time, source, ...(subject === undefined ? {} : { subject }), data }
}
