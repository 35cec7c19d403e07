import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { parsePrometheus } from '../fixtures/prometheus.ts'
import { readSse } from '../fixtures/sse-reader.ts'

describe.each(runtimes)('the first plugins, on %s', (runtime) => {
  let gateway: GatewayProcess
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime })
  }, 240_000)
  afterAll(() => gateway?.stop())

  const send = async (path: string, method = 'GET', body?: unknown, key = gateway.token) => {
    const headers = { 'x-api-key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    return fetch(new URL(path, gateway.url), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })
  }

  test('a revoked key is refused at once, and its streams end within a second', async () => {
    const { id, key } = (await (await send('/api/keys', 'POST', { name: 'mortal' })).json()) as { id: string; key: string }
    const stream = readSse(await send('/api/events', 'GET', undefined, key))
    await stream.waitFor('ready')
    const began = performance.now()
    expect((await send(`/api/keys/${id}`, 'DELETE')).status).toBe(200)
    await stream.ended
    expect(performance.now() - began).toBeLessThan(1_000)
    expect((await send('/api/v1/auth/whoami', 'GET', undefined, key)).status).toBe(401)
  })

  test('the key itself never stands in what the process writes, and is refused in a URL', async () => {
    const { key } = (await (await send('/api/keys', 'POST', { name: 'quiet' })).json()) as { key: string }
    await send('/api/v1/auth/whoami', 'GET', undefined, key)
    const refused = await fetch(new URL(`/api/events?token=${key}`, gateway.url))
    expect(refused.status).toBe(400)
    expect(gateway.stdout + gateway.stderr).not.toContain(key)
    expect(gateway.stdout + gateway.stderr).not.toContain(key.split('_').slice(2).join('_'))
  })

  test('the OpenAPI document lints, the metrics parse, the probes are green', async () => {
    const source = await (await fetch(new URL('/openapi.json', gateway.url))).text()
    expect(await lintFromString({ source, absoluteRef: 'openapi.json', config: await createConfig({ extends: ['recommended'] }) })).toEqual([])
    const families = parsePrometheus(await (await fetch(new URL('/metrics', gateway.url))).text())
    expect(families.get('portico_info')?.samples[0]?.labels.runtime).toStartWith(runtime)
    expect(families.get('process_resident_memory_bytes')?.samples[0]?.value).toBeGreaterThan(1e6)
    expect(await (await fetch(new URL('/readyz', gateway.url))).json()).toMatchObject({ status: 'ok' })
  })
})
