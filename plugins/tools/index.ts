/** The plugin `tools`: what models may call. Others add to its slot; the files, the web and the clock are its own. */
import { definePlugin, guard, rpc, t } from 'portico'
import { database } from 'portico/plugins/database'
import { egress } from 'portico/plugins/egress'
import { applyPatch } from './builtin/apply-patch.ts'
import { listFiles, readFile, searchFiles, writeFile } from './builtin/files.ts'
import { askUser, currentTime } from './builtin/person.ts'
import { webFetch } from './builtin/web-fetch.ts'
import { toolRegistry, tools } from './contract.ts'
import { createRegistry } from './registry.ts'

const risk = t.Enum(['safe', 'gated', 'forbidden'], { description: 'safe = called at once, gated = each call waits for an approval, forbidden = never called' })
const schema = t.Record(t.String(), t.Unknown(), { description: 'JSON Schema' })
const listed = t.Object({
  name: t.String(),
  wireName: t.String({ description: 'As models see it' }),
  description: t.String(),
  risk,
  idempotent: t.Boolean({ description: 'A call that may have happened may be made again' }),
  timeout: t.Number({ description: 'ms' }),
  input: schema,
  output: t.Optional(schema),
})

export default definePlugin({
  id: 'tools',
  version: '0.1.0',
  api: 1,
  summary: 'What models may call: files, the web, the clock, and what other plugins add',
  config: t.Object({
    maxOutput: t.Integer({ minimum: 1_000, maximum: 10_000_000, default: 100_000, description: 'Characters of one answer that a model is shown' }),
    risk: t.Record(t.String(), risk, {
      default: {},
      description: 'By the tool’s name, in the place of what the tool says of itself: safe, gated or forbidden',
    }),
  }),
  requires: { database },
  optional: { egress },
  provides: { toolRegistry },
  slots: [tools],
  adds: [tools],
  paths: ['/api/tools'],
  commands: [{ name: 'tools', summary: 'List the tools that models may call', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { config, log, services } = ctx
    const own = [readFile, listFiles, searchFiles, writeFile, applyPatch, currentTime(ctx.clock), askUser]
    // First, so that no other takes their names.
    for (const tool of services.egress ? [...own, webFetch(services.egress)] : own) ctx.add(tools, tool, { order: -1_000 })
    const isUnavailable = (error: unknown) => services.database.isConnectionError(error)
    const registry = createRegistry({ items: () => ctx.items(tools), log, isUnavailable, ...config })
    return {
      services: { toolRegistry: registry },
      routes: [
        guard(rpc, (app) =>
          app.get('/api/tools', () => ({ tools: registry.list().map((tool) => ({ ...tool })) }), {
            response: t.Object({ tools: t.Array(listed) }),
            detail: { operationId: 'listTools', summary: 'The tools that models may call, with their schemas', tags: ['tools'] },
          }),
        ),
      ],
    }
  },
})
