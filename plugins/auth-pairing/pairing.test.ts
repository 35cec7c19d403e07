import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'
import { lifetime, maxAttempts } from './codes.ts'
import { deviceName } from './device-name.ts'

const clock = createFakeClock()
let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway({ clock })
})
afterAll(() => gateway.stop())

const renew = async (body: object = {}) => (await gateway.json('/api/pairing', { method: 'POST', body })).body
const pair = (code: string | undefined, init: { body?: unknown; agent?: string } = {}) =>
  gateway.json('/pair', {
    method: 'POST',
    as: '',
    body: init.body,
    headers: { ...(code === undefined ? {} : { 'x-pairing-code': code }), ...(init.agent ? { 'user-agent': init.agent } : {}) },
  })
const outcome = async (code: string | undefined) => {
  const { status, body } = await pair(code)
  return status === 200 ? '200' : `${status} ${body.error.code}`
}
const wrongFor = (code: string) => code.replace(/^./, code.startsWith('A') ? 'B' : 'A')

test('a code becomes the key of a device, once', async () => {
  const { code, expiresAt, url } = await renew()
  expect(code).toMatch(/^[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}$/)
  expect(Date.parse(expiresAt)).toBe(clock.now() + 600_000)
  expect(url).toMatch(/^http:/)
  const { status, headers, body } = await pair(code, { body: { name: 'my phone' } })
  expect([status, headers.get('cache-control')]).toEqual([200, 'no-store'])
  expect(body).toEqual({
    paired: true,
    token: expect.stringMatching(/^ptk_/),
    id: expect.stringMatching(/^key_/),
    name: 'my phone',
    scopes: ['rpc', 'api', 'approve'],
  })
  const whoami = await gateway.json('/api/v1/auth/whoami', { as: body.token })
  expect(whoami.body).toMatchObject({ id: body.id, kind: 'device', is_admin: false, scopes: ['rpc', 'api', 'approve'] })
  expect((await gateway.json('/v1/ping', { method: 'POST', as: body.token, body: { message: 'hi' } })).body).toEqual({ ok: true, echo: 'hi' })
  expect(await outcome(code)).toBe('401 missing_credentials')
})

test('the device is listed and revoked like any key, and its making is an event', async () => {
  const { body } = await pair((await renew()).code, { body: { name: 'tablet' } })
  const { keys } = (await gateway.json('/api/keys')).body
  expect(keys.find(({ id }: { id: string }) => id === body.id)).toMatchObject({ name: 'tablet', kind: 'device', createdBy: 'pairing', revokedAt: null })
  const { data } = await gateway.events.waitFor('key:created', ({ subject }) => subject === body.id)
  expect(data).toMatchObject({ name: 'tablet', by: 'pairing', kind: 'device' })
  await gateway.json(`/api/keys/${body.id}`, { method: 'DELETE' })
  expect((await gateway.fetch('/v1/models', { as: body.token })).status).toBe(401)
})

test('as people type it: any case, without the dash, with blanks', async () => {
  for (const typed of [(code: string) => code.toLowerCase(), (code: string) => code.replace('-', ''), (code: string) => ` ${code.replace('-', ' ')} `])
    expect(await outcome(typed((await renew()).code))).toBe('200')
})

test('nothing in the request widens what the device may do', async () => {
  const { code } = await renew()
  const { body } = await pair(code, { body: { name: 'x', scopes: ['admin'], kind: 'user', owner: 'operator', expiresAt: null } })
  expect((await gateway.json('/api/v1/auth/whoami', { as: body.token })).body).toMatchObject({ id: body.id, kind: 'device', scopes: ['rpc', 'api', 'approve'] })
  expect((await gateway.fetch('/api/keys', { as: body.token })).status).toBe(403)
})

describe('a code is dead', () => {
  test('after ten minutes', async () => {
    const [first, second] = [(await renew()).code, await renew()]
    expect(await outcome(first)).toBe('403 forbidden')
    await clock.advance(lifetime - 1)
    expect(await outcome(second.code)).toBe('200')
    const late = await renew()
    await clock.advance(lifetime)
    expect(await outcome(late.code)).toBe('401 missing_credentials')
  })

  test('after five wrong attempts, which say how many are left; the sixth learns nothing', async () => {
    const { code } = await renew()
    const messages: string[] = []
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const { status, body } = await pair(wrongFor(code))
      messages.push(`${status} ${body.error.message}`)
    }
    expect(messages[0]).toBe('403 This is not the pairing code. 4 more attempts, then it is dead.')
    expect(messages.at(-1)).toBe('403 This is not the pairing code. It is dead now. Make a new one: portico pair')
    expect(await outcome(code)).toBe('401 missing_credentials')
  })

  test('for all but one of those who send it at once; and a hundred guesses at once are five attempts', async () => {
    const { code } = await renew()
    const outcomes = await Promise.all(Array.from({ length: maxAttempts }, () => outcome(code)))
    expect(outcomes.filter((each) => each === '200')).toHaveLength(1)
    const next = await renew()
    const guesses = await Promise.all(Array.from({ length: 100 }, () => outcome(wrongFor(next.code))))
    expect(guesses.filter((each) => each === '403 forbidden')).toHaveLength(maxAttempts)
    expect(guesses.filter((each) => each === '401 missing_credentials')).toHaveLength(100 - maxAttempts)
  })

  test('when a new one is made; the devices stay', async () => {
    const { body } = await pair((await renew()).code)
    const old = await renew()
    await renew()
    expect(await outcome(old.code)).toBe('403 forbidden')
    expect((await gateway.fetch('/v1/models', { as: body.token })).status).toBe(200)
  })
})

test('without a code: 401, saying which header; a credential in its place does not help', async () => {
  const { status, body } = await pair(undefined)
  expect([status, body.error.code, body.error.param]).toEqual([401, 'missing_credentials', 'X-Pairing-Code'])
  expect(body.error.message).toContain('portico pair')
})

test('wrong codes are warned of', async () => {
  const { code } = await renew()
  // In process there is no address, so the kernel's warnings of one kind are one.
  await pair(wrongFor(code))
  expect(gateway.log.some(({ message }) => message.startsWith('security: auth_failures'))).toBe(true)
})

test('an address that guesses on kills no more codes, nor does the right one help it until it has waited', async () => {
  const ownClock = createFakeClock()
  await using listening = await startTestGateway({ clock: ownClock, listen: true })
  const renewed = async () => (await listening.json('/api/pairing', { method: 'POST' })).body.code
  const send = async (code: string) => await listening.json('/pair', { method: 'POST', as: '', headers: { 'x-pairing-code': code } })
  await renewed()
  const statuses: number[] = []
  for (let guess = 0; guess < 61; guess++) statuses.push((await send('AAAA-AAAA')).status)
  expect(statuses).toEqual([...Array(5).fill(403), ...Array(55).fill(401), 429])
  const code = await renewed()
  const { status, headers, body } = await send(code)
  expect([status, body.error.code, Number(headers.get('retry-after')) > 0]).toEqual([429, 'rate_limit_exceeded', true])
  await ownClock.advance(Number(headers.get('retry-after')) * 1_000)
  expect((await send(code)).status).toBe(200)
})

test('a pairing is audited, an attempt is not', async () => {
  const { code } = await renew()
  await pair(wrongFor(code))
  const { headers } = await pair(code)
  const { data } = await gateway.events.waitFor('audit:event', ({ data }) => (data as { requestId: string }).requestId === headers.get('x-request-id'))
  expect(data).toMatchObject({ who: 'anonymous', method: 'POST', route: '/pair', status: 200 })
  expect(gateway.events.all.filter(({ type, data }) => type === 'audit:event' && (data as { status: number }).status >= 400)).toEqual([])
})

test('only administrators make codes; `first` makes none once a device is paired, and none when pairing is not required', async () => {
  expect((await gateway.fetch('/api/pairing', { method: 'POST', as: '' })).status).toBe(401)
  const { body } = await pair((await renew()).code)
  expect((await gateway.fetch('/api/pairing', { method: 'POST', as: body.token })).status).toBe(403)
  expect((await renew({ first: true })).code).toBeNull()
  await using fresh = await startTestGateway()
  const asked = () => fresh.json('/api/pairing', { method: 'POST', body: { first: true } })
  const { code } = (await asked()).body
  const paired = (await fresh.json('/pair', { method: 'POST', as: '', headers: { 'x-pairing-code': code } })).body
  expect((await asked()).body.code).toBeNull()
  await fresh.json(`/api/keys/${paired.id}`, { method: 'DELETE' })
  expect((await asked()).body.code).toBeString()
  await using open = await startTestGateway({ config: '[gateway]\nrequire_pairing = false\n[gateway.node_control]\nenabled = false\nallowed_node_ids = []\n' })
  expect((await open.json('/api/pairing', { method: 'POST', body: { first: true } })).body.code).toBeNull()
})

test.each([
  ['my phone', null, 'my phone'],
  ['  \u001b[31mred\u0007\u202e ', null, '[31mred'],
  [undefined, 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36', 'Chrome on Linux'],
  [undefined, 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1 Version/17.0 Mobile Safari/604.1', 'Safari on iOS'],
  [undefined, 'curl/8.5.0', 'curl/8.5.0'],
  ['', '', 'a device'],
  ['x'.repeat(1_000), null, 'x'.repeat(60)],
  [`${'x'.repeat(59)}😀😀`, null, `${'x'.repeat(59)}😀`],
])('the name of a device: %#', (given, agent, name) => {
  expect(deviceName(given, agent)).toBe(name)
})

test('the ways to authenticate name it', async () => {
  const { body } = await gateway.json('/auth/config', { as: '' })
  expect(body.methods).toContainEqual({ method: 'pairing', url: '/pair', header: 'X-Pairing-Code' })
})
