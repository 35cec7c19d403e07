import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { definePlugin } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { statusInfo } from './contract.ts'

const contributor = definePlugin({
  id: 'contributor',
  version: '0.1.0',
  api: 1,
  summary: 'Adds to the status',
  adds: [statusInfo],
  setup(ctx) {
    ctx.add(statusInfo, { health: () => ({ llm_provider: 'ok', tools: { git: 'detected' } }), status: () => ({ sessions: { active: 1 } }) })
  },
})
const broken = definePlugin({
  id: 'broken',
  version: '0.1.0',
  api: 1,
  summary: 'Fails in setup',
  setup() {
    throw new Error('cannot')
  },
})

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ plugins: [contributor] })
})
afterAll(() => gateway.stop())
const get = async (path: string, as = '') => {
  const { status, body } = await gateway.json(path, { as })
  return { status, body }
}

describe('the probes', () => {
  test('answer anyone in the shapes of their worlds', async () => {
    expect(await get('/health')).toEqual({
      status: 200,
      body: { status: 'ok', timestamp: expect.any(String), version: expect.any(String), uptime: expect.any(Number) },
    })
    expect(await get('/health/live')).toEqual({ status: 200, body: { alive: true } })
    expect(await get('/health/ready')).toEqual({ status: 200, body: { ready: true, service: 'portico', version: expect.any(String) } })
    expect(await get('/healthz')).toEqual({ status: 200, body: { status: 'ok' } })
    expect(await get('/readyz')).toEqual({ status: 200, body: { status: 'ok', checks: { database: 'ok', plugins: 'ok' } } })
    expect((await get('/api/health')).body).toMatchObject({ status: 'ok', timestamp: expect.any(String) })
  })

  test('hold what plugins contribute, and detected tools', async () => {
    const { body } = await get('/api/v1/health')
    expect(body).toMatchObject({ status: 'healthy', components: { gateway: 'ok', llm_provider: 'ok', tools: { git: 'detected' } } })
  })

  test('say no path and no secret', async () => {
    for (const path of ['/health', '/readyz', '/api/health', '/api/v1/health']) expect(JSON.stringify(await get(path))).not.toContain(gateway.dataDir)
  })
})

describe('the status', () => {
  test('is for the scope rpc, with the data folder for administrators only', async () => {
    expect((await get('/api/v1/status')).status).toBe(401)
    const { key } = (await gateway.json('/api/keys', { method: 'POST', body: {} })).body
    const mine = (await get('/api/v1/status', key)).body
    expect(mine).toMatchObject({ components: { database: 'ok' }, sessions: { active: 1 } })
    expect(mine.plugins).toContainEqual({ id: 'health', version: '0.1.0', state: 'ready' })
    expect(mine.workspace).toBeUndefined()
    expect((await get('/api/v1/status', gateway.adminToken)).body.workspace).toBe(gateway.dataDir)
  })
})

test('a failed plugin makes the gateway degraded, and leaves it ready', async () => {
  await using other = await startTestGateway({ plugins: [broken] })
  const readyz = await other.json('/readyz', { as: '' })
  expect([readyz.status, readyz.body.status, readyz.body.checks.plugins]).toEqual([200, 'reachable', 'reachable'])
  expect((await other.json('/api/v1/health', { as: '' })).body.status).toBe('degraded')
  const status = (await other.json('/api/v1/status')).body
  expect(status.plugins.find((plugin: any) => plugin.id === 'broken')).toMatchObject({ state: 'failed', reason: 'setup: cannot' })
  // What a plugin says when it fails may name paths, hosts or worse.
  const { key } = (await other.json('/api/keys', { method: 'POST', body: {} })).body
  const seen = (await other.json('/api/v1/status', { as: key })).body.plugins.find((plugin: any) => plugin.id === 'broken')
  expect(seen).toEqual({ id: 'broken', version: '0.1.0', state: 'failed' })
})
