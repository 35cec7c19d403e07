// Is the document valid? @elysiajs/swagger against @elysiajs/openapi, two routes, linted by redocly's recommended rules.
// packages: elysia@1.4.30 @elysiajs/swagger@1.3.1 @elysiajs/openapi@1.4.16 @redocly/openapi-core@2.64.0
import { openapi } from '@elysiajs/openapi'
import { swagger } from '@elysiajs/swagger'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { Elysia, t } from 'elysia'

const info = { title: 'Probe', version: '1.0.0', license: { name: 'MIT', url: 'https://example.com' } }
const documentation = { info, servers: [{ url: 'https://gateway.example' }], security: [], tags: [] }
const detail = (operationId) => ({ operationId, summary: operationId, description: operationId })
const build = (plugin) =>
  new Elysia()
    .use(plugin)
    .get('/state/:id', () => ({ kind: 'state', at: null }), {
      params: t.Object({ id: t.String() }),
      response: t.Object({ kind: t.Literal('state'), at: t.Union([t.String(), t.Null()]) }),
      detail: detail('getState'),
    })
    .post('/state', ({ body }) => body.kind, {
      body: t.Object({ kind: t.Literal('state'), note: t.Union([t.String(), t.Null()]) }),
      response: t.String(),
      detail: detail('setState'),
    })

const config = await createConfig({ extends: ['recommended'] })
for (const [name, plugin, path] of [
  ['@elysiajs/swagger', swagger({ documentation, path: '/docs' }), '/docs/json'],
  ['@elysiajs/openapi', openapi({ documentation, path: '/docs' }), '/docs/json'],
]) {
  const app = build(plugin)
  await app.modules
  const source = await (await app.handle(new Request(`http://localhost${path}`))).text()
  const problems = await lintFromString({ source, config })
  const errors = problems.filter((problem) => problem.severity === 'error')
  const structure = errors.filter((problem) => problem.ruleId === 'struct' || problem.ruleId.startsWith('spec'))
  console.log(`${name}: OpenAPI ${JSON.parse(source).openapi}, ${errors.length} errors, of these ${structure.length} against the specification's own structure`)
}
process.exit(0)
