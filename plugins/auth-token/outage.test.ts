/** What keys are worth while the database is away. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import type { DatabaseAccess } from 'portico/plugins/database'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'

const clock = createFakeClock()
let gateway: TestGateway
let back: (() => void) | undefined
beforeEach(async () => {
  gateway = await startTestGateway({ clock })
})
afterEach(async () => {
  back?.()
  await gateway.stop()
})

/** No connection is given until `back`. */
const loseDatabase = () => {
  const { pool } = gateway.gateway.kernel.database as DatabaseAccess
  const { connect } = pool
  const error = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  pool.connect = ((callback?: (error: Error) => void) => (callback ? callback(error) : Promise.reject(error))) as typeof connect
  back = () => {
    pool.connect = connect
    back = undefined
  }
}
const makeKey = async (body: object = {}): Promise<{ id: string; key: string }> => (await gateway.json('/api/keys', { method: 'POST', body })).body
/** The status, and the code of a refusal. */
const use = async (key: string) => {
  const { status, body } = await gateway.json('/v1/models', { as: key })
  return `${status} ${body.error?.code ?? ''}`.trim()
}
const minutes = (count: number) => clock.advance(count * 60_000)

test('one that was found good stays good for an hour; one that was never seen is 503', async () => {
  const [known, unknown] = [await makeKey(), await makeKey()]
  expect(await use(known.key)).toBe('200')
  loseDatabase()
  await minutes(2)
  expect([await use(known.key), await use(unknown.key)]).toEqual(['200', '503 database_unavailable'])
  // Another secret under the same prefix is another key.
  expect(await use(`${known.key.slice(0, -4)}AAAA`)).toBe('503 database_unavailable')
  await minutes(59)
  expect(await use(known.key)).toBe('503 database_unavailable')
  back?.()
  expect(await use(known.key)).toBe('200')
})

test('one that was revoked, rotated or has expired is not', async () => {
  const expiresAt = new Date(clock.now() + 5 * 60_000).toISOString()
  const [revoked, rotated, expiring] = [await makeKey(), await makeKey(), await makeKey({ expiresAt })]
  for (const { key } of [revoked, rotated, expiring]) expect(await use(key)).toBe('200')
  expect((await gateway.json(`/api/keys/${revoked.id}`, { method: 'DELETE' })).status).toBe(200)
  expect((await gateway.json(`/api/keys/${rotated.id}/rotate`, { method: 'POST' })).status).toBe(200)
  loseDatabase()
  expect([await use(revoked.key), await use(rotated.key)]).toEqual(['503 database_unavailable', '503 database_unavailable'])
  await minutes(2)
  expect(await use(expiring.key)).toBe('200')
  await minutes(4)
  expect(await use(expiring.key)).toBe('503 database_unavailable')
})
