/** What a gateway as a real process says of itself: the documents against what it does. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { fileURLToPath } from 'node:url'
import { Parser } from '@asyncapi/parser'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { parsePrometheus } from '../fixtures/prometheus.ts'
import { outcome } from '../fixtures/send.ts'

const emitter = fileURLToPath(new URL('../fixtures/plugins/emitter.ts', import.meta.url))
interface Operation {
  operationId?: string
  summary?: string
  security?: Record<string, unknown>[]
}
interface PluginView {
  id: string
  events: string[]
  routes: { method: string; path: string; access: string }[]
}

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  let plugins: PluginView[]
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime, config: `plugins = [${JSON.stringify(emitter)}]\n` })
    const list = (await (await gateway.fetch('/api/plugins')).json()) as { plugins: { id: string }[] }
    plugins = await Promise.all(list.plugins.map(async ({ id }) => (await gateway.fetch(`/api/plugins/${id}`)).json() as Promise<PluginView>))
  }, 30_000)
  afterAll(() => gateway?.stop())

  test('the OpenAPI document lists exactly the operations of the route table, of other people’s plugins too, and says who may call them', async () => {
    const { paths } = (await (await fetch(new URL('/openapi.json', gateway.url))).json()) as { paths: Record<string, Record<string, Operation>> }
    const operations = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
    )
    const template = (path: string) => path.replace(/:(\w+)/g, '{$1}').replace(/\*$/, '{rest}')
    // Sockets are no operations of OpenAPI.
    const routes = plugins.flatMap((plugin) => plugin.routes).filter(({ method }) => method !== 'WS')
    expect(operations.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(routes.map(({ method, path }) => `${method} ${template(path)}`).sort())
    expect(routes.map(({ path }) => path)).toContain('/emit')
    for (const { method, path, operation } of operations) {
      const { operationId, summary, security } = operation
      expect([method, path, typeof operationId, (summary?.length ?? 0) > 0, Array.isArray(security)]).toEqual([method, path, 'string', true, true])
      const isOpen = (security ?? []).length === 0 || security?.some((one) => Object.keys(one).length === 0) === true
      const address = path.replace(/\{\w+\}/g, 'x')
      const { status } = await fetch(new URL(address, gateway.url), {
        method,
        headers: { 'content-type': 'application/json' },
        body: /GET|DELETE/.test(method) ? undefined : '{}',
      })
      // A pairing code is no credential of the gate: the route is open, and refuses by itself.
      const refuses = !isOpen || path === '/pair'
      expect([method, path, refuses ? status : status !== 401]).toEqual([method, path, refuses ? 401 : true])
    }
    expect(new Set(operations.map(({ operation }) => operation.operationId)).size).toBe(operations.length)
  })

  test('it passes the linter with a plugin that documents nothing', async () => {
    const source = await (await fetch(new URL('/openapi.json', gateway.url))).text()
    const problems = await lintFromString({ source, absoluteRef: 'openapi.json', config: await createConfig({ extends: ['recommended'] }) })
    expect(problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`)).toEqual([])
  })

  test('the AsyncAPI document is accepted by an independent parser, and lists exactly the owned events', async () => {
    const source = await (await fetch(new URL('/asyncapi.json', gateway.url))).text()
    const { document, diagnostics } = await new Parser().parse(source)
    expect(diagnostics.filter(({ severity }) => severity === 0)).toEqual([])
    const listed = (document?.allMessages().all() ?? []).map((message) => message.name() ?? '').sort()
    const owned = plugins.flatMap(({ events }) => events)
    expect(owned).toContain('emitter:said')
    // Beside the plugins' there are the kernel's own.
    const kernels = listed.filter((type) => !owned.includes(type))
    expect(listed).toEqual([...owned, ...kernels].sort())
    expect(kernels).toContain('plugin:ready')
    for (const type of kernels) expect(type).toMatch(/^(plugin|config|system|audit|security|secret):/)
  })

  test('the metrics pass a strict parser after all kinds of requests', async () => {
    for (const path of ['/v1/models', '/nowhere', '/api/plugins/none', '/v1/models/none%2Fx', '/emit/seen', '/']) await gateway.fetch(path)
    await outcome(gateway, '/v1/models', { method: 'BREW' }).catch(() => undefined)
    const response = await fetch(new URL('/metrics', gateway.url))
    expect(response.headers.get('content-type')).toStartWith('text/plain; version=0.0.4')
    const families = parsePrometheus(await response.text())
    const requests = families.get('portico_http_requests_total')?.samples ?? []
    expect(requests.map(({ labels }) => `${labels.route} ${labels.status}`)).toEqual(
      expect.arrayContaining(['/v1/models 200', '/api/plugins/:id 404', '/emit/seen 200']),
    )
    expect(JSON.stringify(requests)).not.toContain('nowhere')
    expect(families.get('portico_bus_appended_total')?.samples[0]?.value).toBeGreaterThan(0)
  })
})
