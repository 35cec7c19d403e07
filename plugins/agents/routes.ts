/** `/api/agents`. */
import { admin, guard, type RouteGroup, rpc, t } from 'portico'
import type { createAgents } from './agents.ts'
import { type Agent, agentId, agentPatch, agentSpec } from './contract.ts'

const tags = ['agents']
const view = t.Object({
  id: t.String(),
  source: t.Enum(['config', 'api'], { description: 'Those of the config are changed in the config' }),
  ...agentSpec.properties,
})
const params = t.Object({ id: t.String({ maxLength: 100 }) })

const nothing = { description: '', instructions: '', fallbacks: [], tools: [], subAgents: [] }

type Store = ReturnType<typeof createAgents>

/** Seeing them. */
export function readRoutes(agents: Store): RouteGroup {
  return guard(rpc, (app) =>
    app
      .get('/api/agents', async () => ({ agents: (await agents.list()).map(toView) }), {
        response: t.Object({ agents: t.Array(view) }),
        detail: { operationId: 'listAgents', summary: 'The agents that there are', tags },
      })
      .get('/api/agents/:id', async ({ params }) => toView(await agents.get(params.id)), {
        params,
        response: view,
        detail: { operationId: 'getAgent', summary: 'One agent', tags },
      }),
  )
}

/** Changing them. */
export function changeRoutes(agents: Store): RouteGroup {
  return guard(
    admin,
    (app) =>
      app
        .post(
          '/api/agents',
          async ({ body: { id, ...spec }, principal, set }) => {
            set.status = 201
            return toView(await agents.create(id, { ...nothing, ...spec }, principal.id))
          },
          {
            body: t.Object({ id: agentId, ...agentPatch.properties }),
            response: { 201: view },
            detail: { operationId: 'createAgent', summary: 'Make an agent; it can be run at once', tags },
          },
        )
        .patch('/api/agents/:id', async ({ params, body }) => toView(await agents.change(params.id, body)), {
          ...{ params, body: agentPatch, response: view },
          detail: { operationId: 'changeAgent', summary: 'Change an agent; runs that were submitted keep what it was', tags },
        })
        .delete('/api/agents/:id', async ({ params }) => toView(await agents.remove(params.id)), {
          ...{ params, response: view },
          detail: { operationId: 'deleteAgent', summary: 'Delete an agent; its runs go on', tags },
        }),
    { audit: true },
  )
}

function toView(agent: Agent) {
  return { ...agent, fallbacks: [...agent.fallbacks], tools: [...agent.tools], subAgents: [...agent.subAgents] }
}
