import { describe, expect, test } from 'bun:test'
import { startTestGateway } from 'portico/testkit'
import { createScriptedProvider } from './testing.ts'

const refused = (config: string) =>
  startTestGateway({ config }).then(
    async (gateway) => {
      await gateway.stop()
      return 'started'
    },
    (error: Error) => error.message,
  )

describe('the gateway does not start', () => {
  test('with a provider type that nobody contributes, and names those that are', async () => {
    const message = await refused('[models.providers.local]\ntype = "openai-compatble"\nbaseUrl = "http://127.0.0.1:1/v1"\n')
    expect(message).toContain('providers.local.type')
    expect(message).toContain('known: openai-compatible')
    expect(message).toContain('did you mean "openai-compatible"?')
  })

  test('with an alias of a provider that is not there', async () => {
    expect(await refused('[models.aliases]\nfast = "dem/echo"\n')).toContain('did you mean "demo"?')
  })

  test('with a provider whose address is missing, or whose name a plugin has', async () => {
    expect(await refused('[models.providers.local]\ntype = "openai-compatible"\n')).toContain('providers.local.baseUrl is missing')
    expect(await refused('[models.providers.demo]\ntype = "openai-compatible"\nbaseUrl = "http://127.0.0.1:1/v1"\n')).toContain('providers.demo')
  })
})

test('a scripted provider answers what a test says, and remembers what it was asked', async () => {
  const provider = createScriptedProvider({
    script: [
      { text: 'one two' },
      { toolCalls: [{ name: 'add', arguments: { a: 1 } }] },
      { error: { status: 429, code: 'rate_limit_exceeded', retryAfter: 2 } },
      { text: 'slow words', frameDelayMs: 1 },
    ],
  })
  await using gateway = await startTestGateway({ plugins: [provider.plugin], config: '[provider-demo]\nenabled = false\n' })
  const body = { model: 'scripted/model', messages: [] }
  const chat = (more: object = {}) => gateway.json('/v1/chat/completions', { method: 'POST', body: { ...body, ...more } })

  expect((await gateway.json('/v1/models')).body.data.map(({ id }: { id: string }) => id)).toEqual(['scripted/model'])
  expect((await chat()).body.choices[0].message.content).toBe('one two')
  expect((await chat()).body.choices[0]).toMatchObject({
    finish_reason: 'tool_calls',
    message: { tool_calls: [{ function: { name: 'add', arguments: '{"a":1}' } }] },
  })
  const limited = await chat()
  expect(limited.status).toBe(429)
  expect(limited.headers.get('retry-after')).toBe('2')
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ...body, stream: true }) }
  expect(await (await gateway.fetch('/v1/chat/completions', init)).text()).toEndWith('data: [DONE]\n\n')
  expect(provider.left).toBe(0)
  expect(provider.calls.map(({ model, body }) => [model, body.model, body.stream])).toEqual([
    ...Array(3).fill(['model', 'model', undefined]),
    ['model', 'model', true],
  ])
  expect((await chat()).status).toBe(502)
  gateway.events.all.find(({ type }) => type === 'model:catalog_loaded')
})

test('what happens to a provider is told as events', async () => {
  const provider = createScriptedProvider({ otherwise: { error: { status: 503 } } })
  await using gateway = await startTestGateway({ plugins: [provider.plugin] })
  const chat = () => gateway.json('/v1/chat/completions', { method: 'POST', body: { model: 'scripted/model', messages: [] } })
  await gateway.json('/v1/models')
  for (let n = 0; n < 5; n++) expect((await chat()).status).toBe(503)
  const refusedNow = await chat()
  expect(refusedNow.body.error).toMatchObject({ code: 'unavailable' })
  expect(refusedNow.headers.get('retry-after')).toBe('1')
  expect((await gateway.events.waitFor('provider:degraded')).data).toMatchObject({ provider: 'scripted', reason: 'status 503', failures: 5 })
  await Bun.sleep(1_050)
  provider.push({ text: 'well' })
  expect((await chat()).status).toBe(200)
  expect((await gateway.events.waitFor('provider:recovered')).data).toMatchObject({ provider: 'scripted', downMs: expect.any(Number) })
})
