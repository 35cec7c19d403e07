import { afterAll, beforeAll, expect, test } from 'bun:test'
import { createFakeClock, startTestGateway, type TestGateway } from 'portico/testkit'
import { type Origin, startOrigin } from '../../test/fixtures/egress.ts'
import fetcher from '../../test/fixtures/plugins/fetcher.ts'

const clock = createFakeClock()
let origin: Origin
let gateway: TestGateway
beforeAll(async () => {
  origin = await startOrigin((request, response) => response.end(`for ${request.url}`))
  gateway = await startTestGateway({ plugins: [fetcher], clock, config: '[egress]\nallowPrivate = ["127.0.0.1"]\nmax_bytes = 1000' })
})
afterAll(async () => {
  await gateway.stop()
  await origin.stop()
})
const ask = (url: string) => gateway.json('/fetcher', { method: 'POST', body: { url } })
const warnings = () => gateway.log.filter(({ plugin, message, level }) => plugin === 'audit' && message.startsWith('security:') && level === 'warn')

test('another plugin fetches through it what the config allows', async () => {
  const answer = await gateway.fetch('/fetcher', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ url: `${origin.url}/path` }),
  })
  expect([answer.status, await answer.text()]).toEqual([200, 'for /path'])
  expect((await ask('http://127.0.0.2/')).body.error).toMatchObject({ code: 'address_not_allowed', type: 'permission_error' })
})

test('a refusal is told to the operator, and one who is refused in a loop once in ten seconds', async () => {
  const before = warnings().length
  for (let n = 0; n < 3; n++) expect((await ask('http://169.254.169.254/?secret=1')).status).toBe(403)
  expect(warnings().slice(before)).toEqual([
    {
      plugin: 'audit',
      level: 'warn',
      message: 'security: egress_refused',
      properties: { reason: 'address', host: '169.254.169.254', address: '169.254.169.254', kind: 'metadata', purpose: 'fetcher' },
    },
  ])
  expect((await gateway.events.waitFor('security:warn', ({ data }) => JSON.stringify(data).includes('metadata'))).data).toMatchObject({
    kind: 'egress_refused',
    details: { host: '169.254.169.254' },
  })
  await ask('http://10.0.0.1/')
  expect(warnings()).toHaveLength(before + 2)
  await clock.advance(10_000)
  await ask('http://169.254.169.254/')
  expect(warnings()).toHaveLength(before + 3)
})

test('a config that means nothing is an error of the start, which names the key', async () => {
  const start = (config: string) => startTestGateway({ config: `[egress]\n${config}` })
  expect(start('allowPrivate = ["10.0.0.0/99"]')).rejects.toThrow('[plugin egress] allowPrivate: "10.0.0.0/99" is no address, CIDR block or host name')
  expect(start('allowPrivat = []')).rejects.toThrow('did you mean "allowPrivate"?')
  expect(start('maxBytes = 0')).rejects.toThrow('maxBytes')
  await start('timeoutMs = 1').catch((error) => expect(String(error)).toContain('timeoutMs'))
})
