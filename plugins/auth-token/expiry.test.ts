import { afterAll, beforeAll, expect, test } from 'bun:test'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const clock = createFakeClock()
let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ clock })
})
afterAll(() => gateway.stop())

test('a key that expires is refused from that moment, its streams end, and it may be prolonged', async () => {
  const expiresAt = new Date(clock.now() + 20_000).toISOString()
  const { body: made } = await gateway.json('/api/keys', { method: 'POST', body: { expiresAt } })
  const status = async () => (await gateway.fetch('/api/v1/auth/whoami', { as: made.key })).status
  const stream = readSse(await gateway.fetch('/api/events', { as: made.key }))
  await stream.waitFor('ready')
  expect(await status()).toBe(200)

  await clock.advance(20_000)
  expect(await status()).toBe(401)
  await clock.advance(15_000)
  expect((await gateway.events.waitFor('key:revoked')).data).toMatchObject({ id: made.id, by: 'system', reason: 'expired' })
  await stream.ended

  await gateway.json(`/api/keys/${made.id}`, { method: 'PATCH', body: { expiresAt: null } })
  expect(await status()).toBe(200)
})

test('when a key was last used is written in batches, not by the request', async () => {
  const { body: made } = await gateway.json('/api/keys', { method: 'POST', body: {} })
  const lastUsedAt = async () => (await gateway.json(`/api/keys/${made.id}`)).body.lastUsedAt
  const usedAt = new Date(clock.now()).toISOString()
  await gateway.fetch('/api/v1/auth/whoami', { as: made.key })
  expect(await lastUsedAt()).toBeNull()
  await clock.advance(15_000)
  for (let tries = 0; tries < 50 && (await lastUsedAt()) === null; tries++);
  expect(await lastUsedAt()).toBe(usedAt)
})
