/** `/v1/runs` and `/v1/estop`: the dialect of AgentZero's gateway (research, seed 4) over the service `runs`. */
import { admin, contextOf, GatewayError, guard, type Logger, type Principal, type RouteGroup, rpc, type Static, t } from 'portico'
import { canonicalHash } from 'portico/plugins/approvals'
import type { Workspace } from 'portico/plugins/workspace'
import { artifactRoutes } from './artifacts.ts'
import type { Run, RunFilter, RunMode, RunState, RunSubmission, Runs } from './contract.ts'
import { id, idOf, runParams, tags } from './params.ts'
import { maxEntries } from './rows.ts'
import { openRunStream } from './stream.ts'
import * as views from './views.ts'

/** Characters of JSON that one page of events or of a transcript holds; a single entry may be longer. */
const pageCharacters = 4_000_000
const maxMetadata = 16_000

const agent = t.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199}$' })
const sessionKey = t.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$', description: 'sess_…, or a name of your own; absent = a new session' })

const submission = t.Object({
  message: t.String({ minLength: 1, maxLength: 500_000 }),
  mode: t.Optional(
    t.Enum(['followup', 'steer', 'collect', 'interrupt'] satisfies [RunMode, ...RunMode[]], {
      description:
        'How it reaches a session that is at work. followup (default) = a run after those before, steer = the run under way hears it before its next model call, ' +
        'collect = it joins the run that waits in the queue, interrupt = what is under way is cancelled first',
    }),
  ),
  run_id: t.Optional(idOf('A run whose session is meant, in the place of session_key')),
  session_key: t.Optional(sessionKey),
  model: t.Optional(t.String({ minLength: 1, maxLength: 300, description: '`provider/model` or an alias; the header X-Portico-Model beats it' })),
  agent: t.Optional(agent),
  lane: t.Optional(t.String({ minLength: 1, maxLength: 100, description: 'Kept in metadata' })),
  context: t.Optional(t.Union([t.String(), t.Array(t.String(), { maxItems: 100 })], { description: 'What the model is to know besides' })),
  images: t.Optional(t.Array(t.String({ pattern: '^(https?:|data:image/)' }), { maxItems: 10 })),
  priority: t.Optional(t.Integer({ minimum: -100, maximum: 100, description: 'Higher first; default 0' })),
  delay_ms: t.Optional(t.Integer({ minimum: 0, maximum: 31_536_000_000, description: 'Not before so many ms from now' })),
  depends_on: t.Optional(t.Array(id, { maxItems: 100, description: 'Runs that must be completed first' })),
  metadata: t.Optional(t.Record(t.String(), t.Unknown(), { description: `Yours; at most ${maxMetadata} characters as JSON` })),
})
const submissionHeaders = t.Object(
  {
    'idempotency-key': t.Optional(t.String({ minLength: 1, maxLength: 200, description: 'The same key again gives the same run; with another body 409' })),
    'x-portico-model': t.Optional(t.String({ maxLength: 300 })),
  },
  { additionalProperties: true },
)
const accepted = t.Object({
  run_id: t.String(),
  accepted_at: t.String({ format: 'date-time', description: 'When the run was taken in' }),
  session_key: t.String(),
  stream_url: t.String(),
})
const cancelled = t.Object({
  run_id: t.String(),
  cancelled: t.Boolean({ description: 'false = it was over already' }),
  cascade_count: t.Integer({ description: 'Of its children' }),
  cancelled_ids: t.Array(t.String()),
})
const cascade = t.Optional(t.Boolean({ description: 'Its children too; default true' }))

/** Everything of `/v1/runs`, and the emergency stop. */
export function runRoutes(runs: Runs, log: Logger, workspace: Workspace): RouteGroup[] {
  return [submitRoutes(runs), readRoutes(runs), endRoutes(runs), artifactRoutes(runs, workspace), streamRoutes(runs, log), stopRoutes(runs)]
}

function submitRoutes(runs: Runs): RouteGroup {
  return guard(rpc, (app) =>
    app
      .post(
        '/v1/runs',
        async ({ body, request, set }) => {
          set.status = 202
          return toAccepted(await submit(runs, body, request))
        },
        {
          ...{ body: submission, headers: submissionHeaders, response: { 202: accepted } },
          detail: { operationId: 'createRun', summary: 'Submit work, which goes on whoever leaves', tags },
        },
      )
      .post(
        '/v1/runs/:id/retry',
        async ({ params, principal, set }) => {
          const run = await runs.retry(params.id, principal)
          set.status = 202
          return toAccepted(run)
        },
        {
          ...{ params: runParams, response: { 202: accepted } },
          detail: { operationId: 'retryRun', summary: 'Do a run that is over again, as a new one in the same session', tags },
        },
      ),
  )
}

function readRoutes(runs: Runs): RouteGroup {
  return guard(rpc, (app) =>
    app
      .get(
        '/v1/runs',
        async ({ query, principal }) => {
          const { status, session_key: sessionKey, parent: parentId, ...filter } = query
          const data = (await list(runs, principal, { ...filter, sessionKey, parentId }, status)).map(views.toListed)
          return { object: 'list' as const, data, total: data.length }
        },
        {
          query: t.Object({
            status: t.Optional(views.statusFilter),
            agent: t.Optional(agent),
            session_key: t.Optional(sessionKey),
            parent: t.Optional(idOf('Of a run: its children')),
            limit: t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 200, description: 'Default 50' })),
            before: t.Optional(idOf('Of a run: older ones only')),
          }),
          response: t.Object({ object: t.Literal('list'), data: t.Array(views.runView), total: t.Integer({ description: 'Of this page' }) }),
          detail: { operationId: 'listRuns', summary: 'Your runs, the latest first; for an administrator everybody’s', tags },
        },
      )
      .get('/v1/runs/:id', async ({ params, principal }) => views.toView(await runs.get(params.id, principal)), {
        ...{ params: runParams, response: views.runView },
        detail: { operationId: 'getRun', summary: 'One run', tags },
      })
      .get(
        '/v1/runs/:id/result',
        async ({ params, principal, set }) => {
          const run = await runs.get(params.id, principal)
          if (run.endedAt === null) {
            set.status = 202
            set.headers['retry-after'] = '1'
          }
          return views.toView(run)
        },
        {
          ...{ params: runParams, response: { 200: views.runView, 202: views.runView } },
          detail: { operationId: 'getRunResult', summary: 'A run that is over; before, 202 with Retry-After', tags },
        },
      )
      .get(
        '/v1/runs/:id/events',
        async ({ params, query, principal }) => {
          const entries = await runs.entries(params.id, principal, query.since_seq)
          const events = firstPage(entries.map((entry) => views.toEntryView(params.id, entry)))
          const has_more = events.length < entries.length || entries.length >= maxEntries
          return { object: 'list' as const, run_id: params.id, events, total: events.length, has_more }
        },
        {
          params: runParams,
          query: t.Object({
            since_seq: t.Optional(t.Number({ multipleOf: 1, minimum: 0, maximum: 1_000_000_000, description: 'Only what came after this `seq`' })),
          }),
          response: t.Object({
            object: t.Literal('list'),
            run_id: t.String(),
            events: t.Array(views.entryView),
            total: t.Integer({ description: 'Of this page' }),
            has_more: t.Boolean({ description: 'Go on with since_seq' }),
          }),
          detail: { operationId: 'listRunEvents', summary: 'What a run did, in order', tags },
        },
      )
      .get('/v1/runs/:id/transcript', async ({ params, principal }) => transcriptOf(runs, await runs.get(params.id, principal), principal), {
        params: runParams,
        response: t.Object({ entries: t.Array(views.transcriptView), truncated: t.Boolean({ description: 'It is too long; the events have the rest' }) }),
        detail: { operationId: 'getRunTranscript', summary: 'What was said in a run', tags },
      }),
  )
}

function endRoutes(runs: Runs): RouteGroup {
  const cancel = async (id: string, principal: Principal, options: { cascade?: boolean; reason?: string }) => {
    const ids = await runs.cancel(id, principal, options)
    return { run_id: id, cancelled: ids.includes(id), cascade_count: ids.filter((each) => each !== id).length, cancelled_ids: ids }
  }
  return guard(rpc, (app) =>
    app
      .delete(
        '/v1/runs/:id',
        async ({ params, query, principal }) => {
          const answer = await cancel(params.id, principal, { cascade: query.cascade })
          if (query.purge) await runs.delete(params.id, principal)
          return answer
        },
        {
          ...{ params: runParams, response: cancelled },
          query: t.Object({ cascade, purge: t.Optional(t.Boolean({ description: 'Then deletes it with all it left' })) }),
          detail: { operationId: 'deleteRun', summary: 'Cancel a run; with `purge`, delete it', tags },
        },
      )
      .post('/v1/runs/:id/cancel', ({ params, query, principal }) => cancel(params.id, principal, query), {
        ...{ params: runParams, response: cancelled },
        query: t.Object({ cascade, reason: t.Optional(t.String({ minLength: 1, maxLength: 1_000, description: 'Kept with its end' })) }),
        detail: { operationId: 'cancelRun', summary: 'Cancel a run, in whatever state', tags },
      }),
  )
}

function streamRoutes(runs: Runs, log: Logger): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app.get('/v1/runs/:id/stream', ({ params, query, request }) => openRunStream(runs, params.id, request, { format: query.format ?? 'deltas', log }), {
        params: runParams,
        // Other keys pass: the credential of a browser's EventSource stands here too.
        query: t.Object(
          {
            format: t.Optional(t.Enum(['deltas', 'blocks'], { description: 'blocks = whole answers only, cut into paragraphs, headers, list items and code' })),
          },
          { additionalProperties: true },
        ),
        detail: {
          ...{ operationId: 'streamRun', summary: 'Watch a run; Last-Event-ID goes on after what was seen', tags },
          description:
            'Server-Sent Events that hold JSON with a `type`: first `snapshot`, then `status`, `delta`, `model_call`, `tool_call`, `tool_result`, `message` and ' +
            '`progress`, last `completed`, `failed` or `cancelled`; `error` when the stream itself ends before the run.',
          responses: {
            200: { description: 'The stream', content: { 'text/event-stream': { schema: { type: 'string' as const } } } },
            204: { description: 'What Last-Event-ID names was the end' },
          },
        },
      }),
    { stream: true },
  )
}

function stopRoutes(runs: Runs): RouteGroup {
  return guard(admin, (app) =>
    app.post(
      '/v1/estop',
      async ({ principal }) => {
        const ids = await runs.cancelAll(`Emergency stop by ${principal.id}.`)
        return { emergency_stop: true, cancelled_count: ids.length, cancelled_ids: ids.slice(0, maxEntries) }
      },
      {
        response: t.Object({
          emergency_stop: t.Boolean(),
          cancelled_count: t.Integer(),
          cancelled_ids: t.Array(t.String(), { description: `The first ${maxEntries}` }),
        }),
        detail: { operationId: 'emergencyStop', summary: 'Cancel every run of everybody', tags },
      },
    ),
  )
}

async function submit(runs: Runs, body: Static<typeof submission>, request: Request): Promise<Run> {
  const { principal, startedAt } = contextOf(request)
  const { message, mode, context, images, agent, priority, lane, delay_ms: delay, depends_on: dependsOn } = body
  const model = request.headers.get('x-portico-model') || body.model
  const key = request.headers.get('idempotency-key')
  const asked: RunSubmission = {
    ...{ principal, agent, priority, dependsOn, channel: 'api' },
    input: { text: message, images, context: context === '' ? undefined : typeof context === 'string' ? [context] : context },
    ...(model === undefined ? {} : { override: { model } }),
    ...(delay === undefined ? {} : { startAt: new Date(startedAt + delay) }),
    ...(key === null ? {} : { idempotency: { key, hash: canonicalHash({ ...body, model }) } }),
    metadata: checkedMetadata({ ...body.metadata, ...(lane === undefined ? {} : { lane }) }),
  }
  const sessionKey = await sessionOf(runs, body, principal)
  if (sessionKey === undefined) return runs.submit(asked)
  return mode === undefined ? runs.submit({ ...asked, sessionKey }) : runs.send({ ...asked, sessionKey }, mode)
}

async function sessionOf(runs: Runs, { run_id: runId, session_key: key }: Static<typeof submission>, principal: Principal): Promise<string | undefined> {
  if (runId === undefined) return key
  if (key !== undefined)
    throw new GatewayError('validation_failed', 'run_id: it names a session, and so does session_key; send one of them.', { param: 'run_id' })
  return (await runs.get(runId, principal)).sessionId
}

function checkedMetadata(metadata: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (JSON.stringify(metadata).length <= maxMetadata) return metadata
  throw new GatewayError('validation_failed', `metadata: more than ${maxMetadata} characters as JSON; keep less with the run.`, { param: 'metadata' })
}

function toAccepted({ id, createdAt, sessionKey }: Run): Static<typeof accepted> {
  return { run_id: id, accepted_at: createdAt.toISOString(), session_key: sessionKey, stream_url: `/v1/runs/${id}/stream` }
}

/** A status may mean two states: the pages of both, merged. */
async function list(runs: Runs, principal: Principal, filter: RunFilter, status: RunState | undefined): Promise<Run[]> {
  if (status === undefined) return runs.list(principal, filter)
  const pages = await Promise.all(views.toStates(status).map((state) => runs.list(principal, { ...filter, state })))
  if (pages.length === 1) return pages.flat()
  const newestFirst = (a: Run, b: Run) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1)
  return pages
    .flat()
    .sort(newestFirst)
    .slice(0, filter.limit ?? 50)
}

/** What was asked and said, up to what one answer may hold. */
async function transcriptOf(runs: Runs, run: Run, principal: Principal): Promise<{ entries: Static<typeof views.transcriptView>[]; truncated: boolean }> {
  const said: Static<typeof views.transcriptView>[] = [{ role: 'user', content: run.input.text, created_at: run.createdAt.toISOString() }]
  for (let since = 0; ; ) {
    const page = await runs.entries(run.id, principal, since)
    said.push(...page.flatMap((entry) => views.toTranscript(entry) ?? []))
    const entries = firstPage(said)
    if (entries.length < said.length) return { entries, truncated: true }
    if (page.length < maxEntries) return { entries, truncated: false }
    since = page.at(-1)?.seq ?? since
  }
}

/** As many of them as one answer may hold, and one at least. */
function firstPage<T>(items: readonly T[]): T[] {
  let characters = 0
  const end = items.findIndex((item, index) => {
    characters += JSON.stringify(item).length
    return index > 0 && characters > pageCharacters
  })
  return items.slice(0, end === -1 ? items.length : end)
}
