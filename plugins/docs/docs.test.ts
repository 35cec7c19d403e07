import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { Parser } from '@asyncapi/parser'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { definePlugin, open, optional, rpc, t } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { type OpenApiDocument, type Operation, toTemplate } from './openapi.ts'

/** What third parties write: models, wildcards, no ids, hidden routes. */
const sample = definePlugin({
  id: 'sample',
  version: '0.1.0',
  api: 1,
  summary: 'A sample',
  paths: ['/sample'],
  setup: () => ({
    routes: [
      optional(rpc, (app) =>
        app
          .model({ Thing: t.Object({ size: t.Tuple([t.Integer(), t.Integer()]) }) })
          .get('/sample/things/:id', () => ({ size: [1, 2] as [number, number] }), { response: 'Thing', detail: { summary: 'A thing' } })
          .get('/sample/files/*', () => 'x', { detail: { summary: 'A file' } })
          .post('/sample/things', ({ body }) => body, { body: 'Thing', response: 'Thing', detail: { summary: 'Make a thing' } }),
      ),
      open((app) => app.get('/sample/plain', () => 'x')),
      open((app) => app.get('/sample/hidden', () => 'x', { detail: { hide: true } })),
    ],
  }),
})

let gateway: TestGateway
let document: OpenApiDocument
beforeAll(async () => {
  gateway = await startTestGateway({ plugins: [sample] })
  document = (await gateway.json('/openapi.json', { as: '' })).body
})
afterAll(() => gateway.stop())

const lint = async (source: unknown) =>
  (await lintFromString({ source: JSON.stringify(source), absoluteRef: 'openapi.json', config: await createConfig({ extends: ['recommended'] }) })).map(
    ({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer ?? ''}`,
  )
const operations = (): [string, Operation][] =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): [string, Operation] => [`${method.toUpperCase()} ${path}`, operation]),
  )

describe('the OpenAPI document', () => {
  test('passes the recommended rules of an independent linter, which bites', async () => {
    expect(await lint(document)).toEqual([])
    const [path = ''] = Object.keys(document.paths)
    const broken = structuredClone(document)
    for (const operation of Object.values(broken.paths[path] ?? {})) delete operation.summary
    expect(await lint(broken)).not.toEqual([])
  })

  test('lists exactly the operations of the route table, both ways', () => {
    const table = gateway.gateway.kernel.routes().filter(({ method, path }) => !['WS', 'HEAD', 'OPTIONS'].includes(method) && path !== '/sample/hidden')
    expect(
      operations()
        .map(([name]) => name)
        .sort(),
    ).toEqual(table.map(({ method, path }) => `${method} ${toTemplate(path)}`).sort())
    expect(table.length).toBeGreaterThan(25)
  })

  test.each(['operationId', 'summary', 'security'])('says the %s of every operation', (field) => {
    expect(
      operations()
        .filter(([, operation]) => operation[field] === undefined)
        .map(([name]) => name),
    ).toEqual([])
  })

  test('has a summary also of an operation whose author gave none; ours have words', () => {
    expect(document.paths['/sample/plain']?.get?.summary).toBe('GET /sample/plain')
    expect(operations().filter(([name, { summary }]) => summary === name)).toHaveLength(1)
  })

  test('says the security that the route table enforces', () => {
    for (const route of gateway.gateway.kernel.routes()) {
      const operation = document.paths[toTemplate(route.path)]?.[route.method.toLowerCase()]
      if (!operation) continue
      const mayBeAnyone = operation.security.length === 0 || operation.security.some((one) => Object.keys(one).length === 0)
      expect([route.path, mayBeAnyone]).toEqual([route.path, route.access.kind !== 'guard'])
    }
  })

  test('marks every path parameter as required', () => {
    for (const [name, { parameters }] of operations()) {
      for (const parameter of (parameters ?? []) as { in: string; required?: boolean }[])
        if (parameter.in === 'path') expect([name, parameter.required]).toEqual([name, true])
    }
  })

  test('names models after their plugin, operations after method and path, wildcards as a parameter', () => {
    const get = document.paths['/sample/things/{id}']?.get
    expect(get).toMatchObject({ operationId: 'getSampleThingsById', tags: ['sample'], security: [{}, { bearer: [] }, { apiKey: [] }] })
    expect(JSON.stringify(get?.responses[200])).toContain('"$ref":"#/components/schemas/sample.Thing"')
    const { schemas } = document.components as { schemas: Record<string, any> }
    expect(schemas['sample.Thing'].properties.size).toMatchObject({ type: 'array', prefixItems: [{ type: 'integer' }, { type: 'integer' }], items: false })
    expect(document.paths['/sample/files/{rest}']?.get?.parameters).toContainEqual({ name: 'rest', in: 'path', required: true, schema: { type: 'string' } })
    expect(document.tags).toContainEqual({ name: 'sample', description: 'A sample' })
  })

  test('documents the integers of a query as integers', () => {
    const parameters = document.paths['/api/keys']?.get?.parameters as { name: string; schema: { type: string } }[]
    expect(parameters.find(({ name }) => name === 'limit')?.schema.type).toBe('integer')
  })
})

test('the AsyncAPI document is accepted by an independent parser, and lists exactly the owned events', async () => {
  const { body } = await gateway.json('/asyncapi.json', { as: '' })
  const { document: parsed, diagnostics } = await new Parser().parse(JSON.stringify(body))
  expect(diagnostics.filter(({ severity }) => severity === 0)).toEqual([])
  const listed = parsed
    ?.allMessages()
    .all()
    .map((message) => message.name() ?? '')
  expect(listed?.sort()).toEqual(
    gateway.gateway.kernel
      .eventTypes()
      .map(({ ref }) => ref.type as string)
      .sort(),
  )
  expect(listed).toContain('key:revoked')
})

test('the page shows every operation, and lets nothing load from elsewhere', async () => {
  const response = await gateway.fetch('/docs', { as: '' })
  const html = await response.text()
  expect(response.headers.get('content-security-policy')).toStartWith("default-src 'none'")
  expect(html).not.toMatch(/<script|src=|href="http/)
  for (const [, { operationId }] of operations()) expect(html).toContain(`id="${operationId}"`)
})
