/** `/v1/runs/:id/artifacts`: the files that a run staged, over the service `workspace`, for whoever may see the run. */
import { guard, type RouteGroup, rpc, t } from 'portico'
import type { Workspace } from 'portico/plugins/workspace'
import type { Runs } from './contract.ts'
import { id, idOf, runParams, tags } from './params.ts'
import * as views from './views.ts'

/** Seeing them, and taking them back. */
export function artifactRoutes(runs: Runs, workspace: Workspace): RouteGroup {
  const artifacts = t.Object({ artifacts: t.Array(views.artifactView) })
  return guard(rpc, (app) =>
    app
      .get(
        '/v1/runs/:id/artifacts',
        async ({ params, principal }) => {
          const run = await runs.get(params.id, principal)
          return { artifacts: (await workspace.artifacts(run.id)).map(views.toArtifactView) }
        },
        { params: runParams, response: artifacts, detail: { operationId: 'listRunArtifacts', summary: 'The files that a run wants to write, or wrote', tags } },
      )
      .get(
        '/v1/runs/:id/artifacts/:artifactId/patch',
        async ({ params, principal }) => {
          const run = await runs.get(params.id, principal)
          return new Response(await workspace.patch(run.id, params.artifactId), { headers: { 'content-type': 'text/x-diff; charset=utf-8' } })
        },
        {
          params: t.Object({ id, artifactId: idOf('art_…') }),
          detail: {
            ...{ operationId: 'getRunArtifactPatch', summary: 'One of these files as a unified diff', tags },
            responses: { 200: { description: 'The diff; of a binary file its hashes', content: { 'text/x-diff': { schema: { type: 'string' as const } } } } },
          },
        },
      )
      .post(
        '/v1/runs/:id/artifacts/undo',
        async ({ params, principal }) => {
          const run = await runs.get(params.id, principal)
          return { artifacts: (await workspace.undo(run.id)).map(views.toArtifactView) }
        },
        {
          params: runParams,
          response: artifacts,
          detail: { operationId: 'undoRunArtifacts', summary: 'Put back what stood there before a run’s files were written', tags },
        },
      ),
  )
}
