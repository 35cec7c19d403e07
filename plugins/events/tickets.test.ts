import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { Principal } from 'portico'
import { setKeyVersion } from 'portico/plugins/auth-token'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'
import { useLogStores } from '../../test/fixtures/log-stores.ts'
import { readSse } from '../../test/fixtures/sse-reader.ts'
import { createTickets, type Tickets } from './tickets.ts'

const stores = useLogStores()
beforeAll(async () => {
  for (const store of [stores.postgres, stores.pglite]) await store.migrate('events', new URL('./migrations/', import.meta.url))
})

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
})

describe.each(['postgres', 'pglite'] as const)('the tickets of a key, on %s', (kind) => {
  const principalOf = (via: string, version?: number): Principal => {
    const principal: Principal = { id: 'ann', kind: 'user', scopes: ['rpc'], groups: [], via }
    if (version !== undefined) setKeyVersion(principal, version)
    return principal
  }
  const open = () => createTickets({ db: stores[kind].db, clock })
  const opens = async (tickets: Tickets, ticket: string) =>
    (await tickets.method.authenticate({ ...{ ticket, known: false, address: '', loopback: false }, request }, request.signal)) !== null
  const request = new Request('http://localhost/api/events')

  test('are no more than 200, also of those asked for at once', async () => {
    const tickets = open()
    for (let n = 0; n < 190; n += 10) await Promise.all(Array.from({ length: 10 }, () => tickets.create('/api/events', principalOf('token:a'))))
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => tickets.create('/api/events', principalOf('token:a'))))
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(10)
    for (const one of asked) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'rate_limit_exceeded' })
    await tickets.create('/api/events', principalOf('token:b'))
    await clock.advance(61_000)
    await tickets.create('/api/events', principalOf('token:a'))
  })

  test('die with the version of it that asked, whenever the news comes', async () => {
    const tickets = open()
    const { ticket: old } = await tickets.create('/api/events', principalOf('token:c', 1))
    const { ticket: early } = await tickets.create('/api/events', principalOf('token:c', 2))
    tickets.lose('token:c', 2)
    await expect(tickets.create('/api/events', principalOf('token:c', 1))).rejects.toMatchObject({ code: 'invalid_api_key' })
    const { ticket: late } = await tickets.create('/api/events', principalOf('token:c', 2))
    await tickets.forget('token:c', 2)
    expect([await opens(tickets, old), await opens(tickets, early), await opens(tickets, late)]).toEqual([false, true, true])
  })
})
