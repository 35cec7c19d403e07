/** The access log of a gateway as a real process: what an operator sees of each request, and what never stands in it. */
import { afterEach, describe, expect, test } from 'bun:test'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { bearer, createKey, send } from '../fixtures/send.ts'
import { until } from '../fixtures/until.ts'

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  afterEach(() => gateway?.stop())
  const lines = () =>
    gateway.stderr
      .split('\n')
      .filter((line) => line.includes('portico.access'))
      .map((line) => JSON.parse(line) as { level: string; message: string; properties: Record<string, unknown> })

  test('one line for each request: method, template, status, time, id, principal, address; never a query, a path or a credential', async () => {
    gateway = await spawnGateway({ runtime, config: '[log]\naccess = true\nformat = "json"\n' })
    const { id, key } = await createKey(gateway)
    const { ticket } = JSON.parse(
      (await send(gateway, '/api/tickets', { method: 'POST', headers: { ...json, 'x-api-key': key }, body: '{"path":"/api/events"}' })).text,
    )
    await send(gateway, '/v1/models/a-private-name?q=a-private-word', { headers: { authorization: `Bearer ${key}` } })
    await send(gateway, '/nowhere/a-private-name')
    await send(gateway, `/api/events?ticket=${ticket}`)
    await send(gateway, `/v1/models?token=${key}`)
    await send(gateway, '/v1/models', { headers: { authorization: 'Bearer a-wrong-credential', 'x-request-id': 'last' } })
    await until(() => gateway.stderr.includes('"last"'), { message: () => gateway.stderr })

    expect(lines().map(({ message, level }) => `${level} ${message.split(' ms=')[0]}`)).toEqual([
      'INFO POST /api/keys 201',
      'INFO POST /api/tickets 200',
      'INFO GET /v1/models/* 404',
      'INFO GET unmatched 404',
      'INFO GET /api/events 200',
      'INFO GET /v1/models 400',
      'INFO GET /v1/models 401',
    ])
    const all = lines().map(({ properties }) => properties)
    expect(all.map(({ principal }) => principal)).toEqual(['local', id, id, 'anonymous', id, 'anonymous', 'anonymous'])
    for (const { ms, requestId, address } of all) {
      expect([typeof ms, address]).toEqual(['number', '127.0.0.1'])
      expect(requestId).toMatch(/^([0-9a-f-]{36}|last)$/)
    }
    for (const secret of [key, gateway.token, ticket, 'a-private', 'a-wrong-credential', '?', 'q='])
      expect([secret, gateway.stderr.includes(secret)]).toEqual([secret, false])
  })

  test('there is none unless it is asked for, at the start or while the gateway runs', async () => {
    gateway = await spawnGateway({ runtime, config: '[log]\nformat = "json"\n' })
    const set = async (log: { access: boolean }) =>
      JSON.parse((await send(gateway, '/api/config', { method: 'PATCH', headers: { ...json, ...bearer(gateway.token) }, body: JSON.stringify({ log }) })).text)
    await send(gateway, '/health')
    expect(await set({ access: true })).toMatchObject({ keys: ['log.access'], needsRestart: [] })
    await send(gateway, '/health')
    await set({ access: false })
    await send(gateway, '/health')
    await set({ access: true })
    await send(gateway, '/health', { headers: { 'x-request-id': 'last' } })
    await until(() => gateway.stderr.includes('"last"'), { message: () => gateway.stderr })
    const messages = lines().map(({ message }) => message.split(' ms=')[0])
    // The request that switches is told when it is over: by then the log is on, or off.
    expect(messages).toEqual(['PATCH /api/config 200', 'GET /health 200', 'PATCH /api/config 200', 'GET /health 200'])
  })
})

const json = { 'content-type': 'application/json' }
