/** `/v1/runs` and `/v1/estop`: the dialect of AgentZero's gateway over the service. */
import { createHash } from 'node:crypto'
import { admin, GatewayError, guard, type Logger, type Principal, type RouteGroup, rpc, t } from 'portico'
import type { Workspace } from 'portico/plugins/workspace'
import type { RunEntry, RunSubmission, Runs } from './contract.ts'
import { streamRun } from './stream.ts'
import { entryView, runStates, runView, toEntryView, toView } from './views.ts'

const tags = ['runs']
const text = t.String({ minLength: 1, maxLength: 500_000 })
const name = t.String({ minLength: 1, maxLength: 300 })
const key = t.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$' })
const params = t.Object({ id: t.String({ maxLength: 100 }) })
const runParam = { params }

const body = t.Object({
  message: text,
  mode: t.Optional(
    t.Enum(['followup', 'steer', 'collect', 'interrupt'], {
      description:
        'How it reaches a session that is at work. followup (default) = a run after those before, steer = the run under way hears it before its next model call, collect = it joins the run that waits in the queue, interrupt = what is under way is cancelled first',
    }),
  ),
  run_id: t.Optional(t.String({ maxLength: 100, description: 'Of a run: its session is meant' })),
  session_key: t.Optional(key),
  agent: t.Optional(name),
  model: t.Optional(t.String({ minLength: 1, maxLength: 300, description: '`provider/model` or an alias; the header X-Portico-Model beats it' })),
  lane: t.Optional(t.String({ maxLength: 100, description: 'Kept in metadata' })),
  context: t.Optional(t.Array(t.String(), { maxItems: 100 })),
  images: t.Optional(t.Array(t.String({ pattern: '^(https?:|data:image/)' }), { maxItems: 10 })),
  priority: t.Optional(t.Integer({ minimum: -100, maximum: 100, description: 'Higher first; default 0' })),
  delay_ms: t.Optional(t.Integer({ minimum: 0, maximum: 31_536_000_000 })),
  depends_on: t.Optional(t.Array(t.String({ maxLength: 100 }), { maxItems: 100, description: 'Runs that must be completed first' })),
  metadata: t.Optional(t.Record(t.String(), t.Unknown())),
})
const cancelled = t.Object({ run_id: t.String(), cancelled: t.Boolean(), cascade_count: t.Integer(), cancelled_ids: t.Array(t.String()) })
const headers = [
  { name: 'Idempotency-Key', in: 'header' as const, required: false, schema: { type: 'string' as const, maxLength: 200 } },
  { name: 'X-Portico-Model', in: 'header' as const, required: false, schema: { type: 'string' as const } },
]
const number = (maximum: number, description: string) => t.Optional(t.Number({ multipleOf: 1, minimum: 0, maximum, description }))
const accepted = t.Object({ run_id: t.String(), status: t.Enum(runStates), session_key: t.String(), accepted_at: t.String({ format: 'date-time' }) })

/** Taking runs in, and seeing them. */
export function runRoutes(runs: Runs): RouteGroup {
  return guard(rpc, (app) =>
    app
      .post(
        '/v1/runs',
        async ({ body, principal, request, set }) => {
          const submission = await toSubmission(runs, body, principal, request)
          const { mode = 'followup' } = body
          const { sessionKey } = submission
          const run = sessionKey !== undefined && mode !== 'followup' ? await runs.send({ ...submission, sessionKey }, mode) : await runs.submit(submission)
          set.status = 202
          return { run_id: run.id, status: 'queued' as const, session_key: run.sessionKey, accepted_at: run.createdAt.toISOString() }
        },
        {
          body,
          response: { 202: accepted },
          detail: { operationId: 'createRun', summary: 'Submit work; it goes on whoever leaves', tags, parameters: headers },
        },
      )
      .get(
        '/v1/runs',
        async ({ query, principal }) => {
          const { status, agent, session_key: sessionKey, parent: parentId, limit, before } = query
          const data = (await runs.list(principal, { state: status, agent, sessionKey, parentId, limit, before })).map(toView)
          return { object: 'list' as const, data, total: data.length }
        },
        {
          query: t.Object({
            status: t.Optional(t.Enum(runStates)),
            agent: t.Optional(name),
            session_key: t.Optional(key),
            parent: t.Optional(t.String({ maxLength: 100 })),
            limit: t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 200, description: 'Default 50' })),
            before: t.Optional(t.String({ maxLength: 100, description: 'Id of a run: older ones only' })),
          }),
          response: t.Object({ object: t.Literal('list'), data: t.Array(runView), total: t.Integer({ description: 'Of this page' }) }),
          detail: { operationId: 'listRuns', summary: 'Your runs, the latest first; of an admin everybody’s', tags },
        },
      )
      .get('/v1/runs/:id', async ({ params, principal }) => toView(await runs.get(params.id, principal)), {
        ...{ params, response: runView },
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
          return toView(run)
        },
        {
          ...{ params, response: { 200: runView, 202: runView } },
          detail: { operationId: 'getRunResult', summary: 'The run once it is over; 202 before', tags },
        },
      )
      .get(
        '/v1/runs/:id/events',
        async ({ params, query, principal }) => {
          const events = (await runs.entries(params.id, principal, query.since_seq)).map((entry) => toEntryView(params.id, entry))
          return { object: 'list' as const, run_id: params.id, events, total: events.length }
        },
        {
          ...{ params, query: t.Object({ since_seq: number(1_000_000_000, 'Only what came after this `seq`; default 0') }) },
          response: t.Object({ object: t.Literal('list'), run_id: t.String(), events: t.Array(entryView), total: t.Integer() }),
          detail: { operationId: 'listRunEvents', summary: 'What the run did, in order, at most 1,000', tags },
        },
      )
      .get(
        '/v1/runs/:id/transcript',
        async ({ params, principal }) => {
          const run = await runs.get(params.id, principal)
          const said = { role: 'user', content: run.input.text, created_at: run.createdAt.toISOString() }
          return { entries: [said, ...(await runs.entries(params.id, principal)).flatMap(toTranscript)] }
        },
        {
          params,
          response: t.Object({
            entries: t.Array(t.Object({ role: t.String({ description: 'user, assistant or tool' }), content: t.String(), created_at: t.String() })),
          }),
          detail: { operationId: 'getRunTranscript', summary: 'What was said in the run, to read', tags },
        },
      ),
  )
}

/** Ending runs, and trying them again. */
export function changeRoutes(runs: Runs, workspace: Workspace): RouteGroup {
  const cancel = async (id: string, principal: Principal, cascade: boolean | undefined) => {
    const ids = await runs.cancel(id, principal, { cascade })
    return { run_id: id, cancelled: ids.length > 0, cascade_count: ids.filter((each) => each !== id).length, cancelled_ids: ids }
  }
  const artifact = t.Object({
    id: t.String(),
    path: t.String(),
    change: t.Enum(['created', 'modified', 'deleted']),
    state: t.String({ description: 'staged, applied, discarded or undone' }),
    size: t.Integer(),
    is_binary: t.Boolean(),
    diff: t.String({ description: 'Lines that come and go: +85 -0' }),
    before: t.Nullable(t.String({ description: 'SHA-256 of what stood there' })),
    after: t.Nullable(t.String()),
  })
  const artifacts = t.Object({ artifacts: t.Array(artifact) })
  return guard(rpc, (app) =>
    app
      .delete(
        '/v1/runs/:id',
        async ({ params, query, principal }) => {
          const answer = await cancel(params.id, principal, query.cascade)
          if (query.purge) await runs.delete(params.id, principal)
          return answer
        },
        {
          params,
          query: t.Object({
            cascade: t.Optional(t.Boolean({ description: 'Its children too; default true' })),
            purge: t.Optional(t.Boolean({ description: 'Deletes it with all it left' })),
          }),
          response: cancelled,
          detail: { operationId: 'deleteRun', summary: 'Cancel a run; with purge, delete it', tags },
        },
      )
      .post('/v1/runs/:id/cancel', ({ params, query, principal }) => cancel(params.id, principal, query.cascade), {
        ...{ params, query: t.Object({ cascade: t.Optional(t.Boolean({ description: 'Its children too; default true' })) }) },
        response: cancelled,
        detail: { operationId: 'cancelRun', summary: 'Cancel a run, in whatever state', tags },
      })
      .post(
        '/v1/runs/:id/retry',
        async ({ params, principal, set }) => {
          const run = await runs.retry(params.id, principal)
          set.status = 202
          return { run_id: run.id, status: run.state, session_key: run.sessionKey, accepted_at: run.createdAt.toISOString() }
        },
        { params, response: { 202: accepted }, detail: { operationId: 'retryRun', summary: 'The same again, as a new run', tags } },
      )
      .get(
        '/v1/runs/:id/artifacts',
        async ({ params, principal }) => {
          await runs.get(params.id, principal)
          return { artifacts: (await workspace.artifacts(params.id)).map(toArtifact) }
        },
        { params, response: artifacts, detail: { operationId: 'listRunArtifacts', summary: 'The files the run staged', tags } },
      )
      .get(
        '/v1/runs/:id/artifacts/:artifactId/patch',
        async ({ params, principal }) => {
          await runs.get(params.id, principal)
          return new Response(await workspace.patch(params.id, params.artifactId), { headers: { 'content-type': 'text/x-diff; charset=utf-8' } })
        },
        {
          params: t.Object({ ...params.properties, artifactId: t.String({ maxLength: 100 }) }),
          detail: {
            ...{ operationId: 'getRunArtifactPatch', summary: 'A staged file as a unified diff', tags },
            responses: { 200: { description: 'The diff', content: { 'text/x-diff': { schema: { type: 'string' as const } } } } },
          },
        },
      )
      .post(
        '/v1/runs/:id/artifacts/undo',
        async ({ params, principal }) => {
          await runs.get(params.id, principal)
          return { artifacts: (await workspace.undo(params.id)).map(toArtifact) }
        },
        { params, response: artifacts, detail: { operationId: 'undoRunArtifacts', summary: 'Put back what stood there before the files were applied', tags } },
      ),
  )
}

/** Following a run. */
export function streamRoutes(runs: Runs, log: Logger): RouteGroup {
  return guard(
    rpc,
    (app) =>
      app.get('/v1/runs/:id/stream', ({ params, query, request }) => streamRun(runs, params.id, request, { format: query.format ?? 'deltas', log }), {
        ...runParam,
        // Other keys pass: the credential of a browser's EventSource stands here too.
        query: t.Object(
          { format: t.Optional(t.Enum(['deltas', 'blocks'], { description: 'blocks = no pieces of text, whole answers only' })) },
          { additionalProperties: true },
        ),
        detail: {
          ...{ operationId: 'streamRun', summary: 'Follow a run; Last-Event-ID goes on after what was seen', tags },
          responses: {
            200: {
              description:
                'Frames `snapshot`, `status`, `delta`, `model_call`, `tool_call`, `tool_result`, `message`, `progress`; last one named as the end: completed, failed, cancelled or rejected',
              content: { 'text/event-stream': { schema: { type: 'string' as const } } },
            },
          },
        },
      }),
    { stream: true },
  )
}

/** The emergency stop. */
export function stopRoutes(runs: Runs): RouteGroup {
  return guard(
    admin,
    (app) =>
      app.post(
        '/v1/estop',
        async ({ principal }) => {
          const ids = await runs.cancelAll(`Emergency stop by ${principal.id}.`)
          return { emergency_stop: true, cancelled_count: ids.length, cancelled_ids: ids.slice(0, 1_000) }
        },
        {
          response: t.Object({
            emergency_stop: t.Boolean(),
            cancelled_count: t.Integer(),
            cancelled_ids: t.Array(t.String(), { description: 'At most 1,000' }),
          }),
          detail: { operationId: 'emergencyStop', summary: 'Cancel every run of everybody', tags },
        },
      ),
    { audit: true },
  )
}

type Body = {
  message: string
  run_id?: string
  session_key?: string
  agent?: string
  model?: string
  lane?: string
  context?: string[]
  images?: string[]
  priority?: number
  delay_ms?: number
  depends_on?: string[]
  metadata?: Record<string, unknown>
}

async function toSubmission(runs: Runs, body: Body, principal: Principal, request: Request): Promise<RunSubmission> {
  const { message, images, context, agent, priority, delay_ms: delay, depends_on: dependsOn, lane, run_id: runId, metadata } = body
  const sessionKey = body.session_key ?? (runId === undefined ? undefined : (await runs.get(runId, principal)).sessionId)
  const model = request.headers.get('x-portico-model') || body.model
  const idempotencyKey = request.headers.get('idempotency-key')
  return {
    ...{ principal, agent, sessionKey, priority, dependsOn, channel: 'api', input: { text: message, images, context } },
    ...{ override: { model }, startAt: delay ? new Date(Date.now() + delay) : undefined, metadata: { ...metadata, ...(lane ? { lane } : {}) } },
    ...(idempotencyKey ? { idempotency: { key: checkedKey(idempotencyKey), hash: hashOf({ ...body, model }) } } : {}),
  }
}

function checkedKey(key: string): string {
  if (key.length <= 200) return key
  throw new GatewayError('validation_failed', 'Idempotency-Key: at most 200 characters.', { param: 'Idempotency-Key' })
}

function hashOf(body: object): string {
  const entries = Object.entries(body).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(entries)).digest('hex')
}

function toTranscript({ type, data, at }: RunEntry): { role: string; content: string; created_at: string }[] {
  const said = (role: string, content: unknown) => (content === '' ? [] : [{ role, content: String(content), created_at: at.toISOString() }])
  if (type === 'model_call') return said('assistant', data.text)
  if (type === 'message') return said('user', data.text)
  if (type !== 'tool_result') return []
  const parts = data.parts as { type: string; text?: string }[]
  const texts = parts.map((part) => part.text ?? `[${part.type}]`)
  return said('tool', [...texts, ...(data.structured === undefined ? [] : [JSON.stringify(data.structured)])].join('\n'))
}

function toArtifact({ id, path, change, state, size, isBinary, diff, before, after }: Awaited<ReturnType<Workspace['artifacts']>>[number]) {
  return { id, path, change, state, size, is_binary: isBinary, diff, before, after }
}
