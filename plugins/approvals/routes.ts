/** `/api/approvals`: what waits for a decision, and deciding it. */
import { guard, type RouteGroup, rpc, t } from 'portico'
import { type Approval, type ApprovalState, type Approvals, approve } from './contract.ts'

const tags = ['approvals']
const moment = t.String({ format: 'date-time' })
const states = ['pending', 'approved', 'denied', 'expired', 'withdrawn'] as const satisfies readonly ApprovalState[]
const text = t.String({ maxLength: 20_000 })

const view = t.Object({
  id: t.String({ description: 'apr_…' }),
  runId: t.String(),
  owner: t.String({ description: 'Whose run it is' }),
  kind: t.Enum(['tool', 'artifacts', 'repeat', 'question'], {
    description: 'tool = a gated call, artifacts = staged files, repeat = a call that may have happened already, question = is answered',
  }),
  callId: t.Nullable(t.String()),
  title: t.String(),
  arguments: t.Unknown({ description: 'What exactly is allowed' }),
  argumentsHash: t.String({ description: 'SHA-256 of the arguments in canonical JSON (RFC 8785): send it along to decide about these and no others' }),
  question: t.Nullable(t.String()),
  choices: t.Array(t.String(), { description: 'Of a question; empty = any answer' }),
  state: t.Enum(states),
  answer: t.Nullable(t.String()),
  comment: t.Nullable(t.String()),
  decidedBy: t.Nullable(t.String({ description: 'A principal; null of what no principal decided' })),
  decidedVia: t.Nullable(t.String()),
  createdAt: moment,
  expiresAt: t.String({ format: 'date-time', description: 'Denied by itself then' }),
  decidedAt: t.Nullable(moment),
})
/** Whatever names one: what the database has no place for is none. */
const id = (description: string) => t.String({ pattern: '^[!-~]{1,100}$', description })
const params = t.Object({ id: id('apr_…') })
const argumentsHash = t.Optional(t.String({ pattern: '^[0-9a-f]{64}$' }))
const decision = t.Object({
  comment: t.Optional(text),
  argumentsHash,
  via: t.Optional(t.Enum(['api', 'cli', 'chat'], { description: 'From where; default api' })),
})
const limit = t.Optional(t.Number({ multipleOf: 1, minimum: 1, maximum: 200, description: 'Default 50' }))

/** Seeing them. */
export function readRoutes(approvals: Approvals): RouteGroup {
  return guard(rpc, (app) =>
    app
      .get('/api/approvals', async ({ query, principal }) => ({ approvals: (await approvals.list(principal, query)).map(toView) }), {
        query: t.Object({
          state: t.Optional(t.Enum(states)),
          runId: t.Optional(id('Of one run only')),
          limit,
          before: t.Optional(id('Id of an approval: older ones only')),
        }),
        response: t.Object({ approvals: t.Array(view) }),
        detail: { operationId: 'listApprovals', summary: 'Your approvals, the latest first; of an admin everybody’s', tags },
      })
      .get('/api/approvals/:id', async ({ params, principal }) => toView(await approvals.get(params.id, principal)), {
        params,
        response: view,
        detail: { operationId: 'getApproval', summary: 'One approval, with the exact arguments', tags },
      }),
  )
}

/** Deciding them. */
export function decisionRoutes(approvals: Approvals): RouteGroup {
  return guard(approve, (app) =>
    app
      .post(
        '/api/approvals/:id/approve',
        async ({ params, body, principal }) => toView(await approvals.decide(params.id, { decision: 'approve', via: 'api', ...body }, principal)),
        { params, body: decision, response: view, detail: { operationId: 'approveApproval', summary: 'Let it happen', tags } },
      )
      .post(
        '/api/approvals/:id/deny',
        async ({ params, body, principal }) => toView(await approvals.decide(params.id, { decision: 'deny', via: 'api', ...body }, principal)),
        { params, body: decision, response: view, detail: { operationId: 'denyApproval', summary: 'Refuse it; a comment is told to the model', tags } },
      )
      .post(
        '/api/approvals/:id/answer',
        async ({ params, body, principal }) => toView(await approvals.decide(params.id, { decision: 'approve', via: 'api', ...body }, principal)),
        {
          params,
          body: t.Object({ ...decision.properties, answer: t.String({ minLength: 1, maxLength: 20_000 }) }),
          response: view,
          detail: { operationId: 'answerApproval', summary: 'Answer a question', tags },
        },
      ),
  )
}

function toView({ createdAt, expiresAt, decidedAt, choices, ...rest }: Approval) {
  return {
    ...rest,
    choices: [...choices],
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
    decidedAt: decidedAt?.toISOString() ?? null,
  }
}
