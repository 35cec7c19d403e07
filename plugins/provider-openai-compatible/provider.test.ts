import { afterAll, beforeAll, expect, test } from 'bun:test'
import { startUpstream, type Upstream } from '../../test/fixtures/upstream.ts'
import { createProvider } from './provider.ts'

let upstream: Upstream
beforeAll(async () => {
  upstream = await startUpstream({ apiKey: 'sk-up' })
})
afterAll(() => upstream.stop())

const log = { debug() {}, info() {}, warn() {}, error() {} }
const make = (more: object = {}) => createProvider({ id: 'p', baseUrl: upstream.url, apiKey: 'sk-up', headers: {}, log, ...more })
const { signal } = new AbortController()

test('lists what the server lists', async () => {
  expect(await make().models(signal)).toContainEqual({ id: 'mock-small', created: expect.any(Number), ownedBy: 'mock' })
})

test('takes only what is a model from a list, and nothing from what is no list', async () => {
  upstream.script({ body: '{"data":[{"id":"a","created":"x"},{"id":7},null,{"id":""}]}' })
  expect(await make().models(signal)).toEqual([{ id: 'a', created: undefined, ownedBy: undefined }])
  for (const body of ['[]', '{}', 'null', '<html>']) {
    upstream.script({ body })
    expect(make().models(signal)).rejects.toThrow()
    await Bun.sleep(20)
  }
  upstream.script({ status: 404, body: '{}' })
  expect(make().models(signal)).rejects.toThrow('404')
  await Bun.sleep(20)
})

test('a list in the config is complete, and the server is not asked', async () => {
  upstream.reset()
  const provider = make({ models: ['a', 'b'] })
  expect(provider.closed).toBe(true)
  expect(await provider.models(signal)).toEqual([{ id: 'a' }, { id: 'b' }])
  expect(upstream.requests).toHaveLength(0)
})

test('sends no credential when it has none, and headers of the config over its own', async () => {
  upstream.reset()
  const provider = make({ apiKey: undefined, headers: { 'X-Api-Key': 'k', 'User-Agent': 'mine' } })
  await (await provider.chat!({ body: new TextEncoder().encode('{"model":"m"}'), model: 'm', signal })).text()
  const { headers } = await upstream.waitForRequest()
  expect(headers.authorization).toBeUndefined()
  expect(headers).toMatchObject({ 'x-api-key': 'k', 'user-agent': 'mine' })
})

test('a base URL that cannot be one is refused, by key', () => {
  for (const baseUrl of [undefined, 'http://', 'http://u:p@host/v1', 'http://host/v1?x=1']) expect(() => make({ baseUrl })).toThrow('providers.p.baseUrl')
  expect(make({ baseUrl: 'http://127.0.0.1:9/v1///' }).baseUrl).toBe('http://127.0.0.1:9/v1')
})
