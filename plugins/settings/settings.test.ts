import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestGateway, type TestGateway } from 'portico/testkit'

const secret = 'a-secret-that-must-never-be-seen-anywhere'
let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ env: { CI_TOKEN: secret }, config: '[[auth-token.tokens]]\nid = "ci"\nsecret = "env:CI_TOKEN"\n' })
})
afterAll(() => gateway.stop())

describe('the settings', () => {
  test('list the plugins with their states, and one with its routes', async () => {
    const { body } = await gateway.json('/api/plugins')
    expect(body.total).toBe(body.plugins.length)
    const settings = body.plugins.find((plugin: any) => plugin.id === 'settings')
    expect(settings).toMatchObject({ state: 'ready', from: 'builtin', usesKernel: true })
    const one = (await gateway.json('/api/plugins/settings')).body
    expect(one.routes).toContainEqual({ method: 'GET', path: '/api/config', access: 'guard', scopes: ['admin'] })
  })

  test('name the nearest plugin when there is none of that id', async () => {
    const { status, body } = await gateway.json('/api/plugins/setings')
    expect(status).toBe(404)
    expect(body.error.message).toContain('did you mean "settings"?')
  })

  test('show the config without its secrets', async () => {
    const { status, body } = await gateway.json('/api/config')
    expect(status).toBe(200)
    expect(body.config['auth-token'].tokens[0].id).toBe('ci')
    expect(JSON.stringify(body)).not.toContain(secret)
    expect(JSON.stringify(gateway.log)).not.toContain(secret)
    expect((await gateway.json('/api/v1/auth/whoami', { as: secret })).body.id).toBe('ci')
  })

  test('show the schema of the config file', async () => {
    const { body } = await gateway.json('/api/config/schema')
    expect(Object.keys(body.properties)).toEqual(expect.arrayContaining(['gateway', 'database', 'auth-token']))
  })

  test('are for administrators', async () => {
    for (const path of ['/api/plugins', '/api/plugins/events', '/api/config', '/api/config/schema']) {
      expect((await gateway.fetch(path, { as: secret })).status).toBe(403)
      expect((await gateway.fetch(path, { as: '' })).status).toBe(401)
    }
  })
})
