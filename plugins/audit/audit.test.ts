import { expect, test } from 'bun:test'
import { admin, definePlugin, guard, rpc, secret, t } from 'portico'
import { startTestGateway } from 'portico/testkit'
import audit from './index.ts'

const plugin = definePlugin({
  id: 'audited',
  version: '1.0.0',
  api: 1,
  summary: 'A test plugin',
  paths: ['/audited'],
  setup: () => ({
    routes: [
      guard(admin, (app) => app.get('/audited/read', () => 'x').post('/audited/:id/change', () => 'x')),
      guard(rpc, (app) => app.post('/audited/use', () => 'x')),
    ],
  }),
})

test('every change by an administrator is an event: who, what, from where; reading, using and being refused are none', async () => {
  await using gateway = await startTestGateway({ only: [plugin, audit], listen: true })
  for (const [method, path, as] of [
    ['GET', '/audited/read', undefined],
    ['POST', '/audited/use', undefined],
    ['POST', '/audited/7/change', 'wrong'],
    ['POST', '/audited/7/change', undefined],
  ] as const)
    await (await gateway.fetch(`${path}?token_like=secret`, { method, ...(as === undefined ? {} : { as }) })).text()
  const { data } = await gateway.events.waitFor('audit:event')
  expect(data).toEqual({
    who: 'local',
    via: 'local:local',
    address: '127.0.0.1',
    method: 'POST',
    route: '/audited/:id/change',
    status: 200,
    requestId: expect.any(String),
  })
  expect(gateway.events.all.filter(({ type }) => type === 'audit:event')).toHaveLength(1)
})

test('a foreign Host or Origin is told of, once in a while', async () => {
  await using gateway = await startTestGateway({ only: [plugin, audit], listen: true })
  for (let n = 0; n < 3; n++) await (await gateway.fetch('/audited/read', { headers: { origin: 'https://evil.example' } })).text()
  const { data } = await gateway.events.waitFor('security:warn')
  expect(data).toMatchObject({ kind: 'foreign_origin', details: { origin: 'https://evil.example', address: '127.0.0.1' } })
  expect(gateway.events.all.filter(({ type }) => type === 'security:warn')).toHaveLength(1)
})

test('a reference to a secret that was resolved is told of, never its value', async () => {
  const keeper = definePlugin({
    version: '1.0.0',
    api: 1,
    summary: 'A test plugin',
    id: 'keeper',
    config: t.Object({ token: t.Optional(secret()) }),
    setup() {},
  })
  await using gateway = await startTestGateway({
    only: [keeper, audit],
    env: { FIRST: 'first-secret', SECOND: 'second-secret' },
    config: '[keeper]\ntoken = "env:FIRST"\n',
  })
  await gateway.gateway.kernel.reload({ text: '[keeper]\ntoken = "env:SECOND"\n' })
  const { data } = await gateway.events.waitFor('secret:accessed', (event) => JSON.stringify(event.data).includes('SECOND'))
  expect(data).toEqual({ section: 'keeper', key: 'token', reference: 'env:SECOND' })
  expect(JSON.stringify(gateway.events.all)).not.toContain('second-secret')
})
