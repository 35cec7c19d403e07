import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'
import { readSse } from '../../test/fixtures/sse-reader.ts'

const clock = createFakeClock()
let gateway: TestGateway
let key: { id: string; key: string }
beforeAll(async () => {
  gateway = await startTestGateway({ clock })
  key = (await gateway.json('/api/keys', { method: 'POST', body: {} })).body
})
afterAll(() => gateway.stop())

const newTicket = async () => (await gateway.json('/api/tickets', { method: 'POST', as: key.key, body: { path: '/api/events' } })).body.url as string
const use = (url: string) => gateway.fetch(url, { as: '' })

describe('the time of a ticket', () => {
  test('is a minute to its first use', async () => {
    const url = await newTicket()
    await clock.advance(61_000)
    expect((await use(url)).status).toBe(401)
  })

  test('is as long as its stream, and ten minutes more', async () => {
    const url = await newTicket()
    const stream = readSse(await use(url))
    await stream.waitFor('ready')
    for (let minute = 0; minute < 30; minute++) await clock.advance(60_000)
    await stream.close()

    await clock.advance(9 * 60_000)
    const again = readSse(await use(url))
    await again.waitFor('ready')
    await again.close()

    await clock.advance(11 * 60_000)
    expect((await use(url)).status).toBe(401)
  })

  test('ends with a bounded number of them', async () => {
    const statuses: number[] = []
    for (let n = 0; n < 205; n++)
      statuses.push(
        (await gateway.fetch('/api/tickets', { method: 'POST', as: key.key, headers: { 'content-type': 'application/json' }, body: '{"path":"/api/events"}' }))
          .status,
      )
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(0)
    await clock.advance(61_000)
    expect(await newTicket()).toContain('ticket=')
  })
})
