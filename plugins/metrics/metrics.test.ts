import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { parsePrometheus } from '../../test/fixtures/prometheus.ts'

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ listen: true })
})
afterAll(() => gateway.stop())

describe('GET /metrics', () => {
  test('passes a strict parser, and counts requests by the template of their route', async () => {
    await gateway.fetch('/api/plugins/health')
    await gateway.fetch('/api/plugins/none')
    await gateway.fetch('/nowhere/at/all')
    const response = await gateway.fetch('/metrics', { as: '' })
    expect(response.headers.get('content-type')).toStartWith('text/plain; version=0.0.4')
    const families = parsePrometheus(await response.text())
    const requests = families.get('portico_http_requests_total')?.samples.map(({ labels }) => `${labels.method} ${labels.route} ${labels.status}`)
    expect(requests).toContain('GET /api/plugins/:id 200')
    expect(requests).toContain('GET /api/plugins/:id 404')
    expect(requests?.join()).not.toContain('nowhere')
    expect(families.size).toBeGreaterThan(15)
  })

  test('is for administrators when the caller is not on loopback', async () => {
    const forwarded = { 'x-forwarded-for': '203.0.113.9' }
    const { key } = (await gateway.json('/api/keys', { method: 'POST', body: {} })).body
    const { key: adminKey } = (await gateway.json('/api/keys', { method: 'POST', body: { scopes: ['admin'] } })).body
    const status = async (as: string) => (await gateway.fetch('/metrics', { as, headers: forwarded })).status
    expect(await status('')).toBe(401)
    expect(await status(key)).toBe(403)
    expect(await status(adminKey)).toBe(200)
    expect((await gateway.fetch('/metrics', { as: 'wrong' })).status).toBe(401)
  })
})
