import { describe, expect, test } from 'bun:test'
import type { GatewayError } from 'portico'
import { createFakeClock } from 'portico/testkit'
import type { ModelProvider, WireCallRequest } from './contract.ts'
import { createModels, type ModelsOptions } from './service.ts'
import { createScriptedProvider } from './testing.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }

function start(providers: readonly ModelProvider[], options: Partial<ModelsOptions> = {}) {
  const clock = createFakeClock()
  const events: string[] = []
  const models = createModels({
    clock,
    log,
    aliases: {},
    providers: () => providers,
    onCatalog: (provider, count) => events.push(`catalog ${provider} ${count}`),
    reports: (provider) => ({
      degraded: (reason, failures, until) => events.push(`degraded ${provider} ${reason} ${failures} ${until - clock.now()}`),
      unauthorized: (status, until) => events.push(`unauthorized ${provider} ${status} ${until - clock.now()}`),
      recovered: (downMs) => events.push(`recovered ${provider} ${downMs}`),
    }),
    ...options,
  })
  const call = async (provider: string, more: Partial<WireCallRequest> = {}) => {
    const call = await models.call('chat', {
      provider,
      model: 'm',
      body: new TextEncoder().encode('{"model":"m"}'),
      signal: new AbortController().signal,
      ...more,
    })
    call.done()
    return call.status
  }
  const codeOf = (work: Promise<unknown>) => work.then(String, (error: GatewayError) => error.code)
  return { models, clock, events, call, codeOf }
}

const named = (id: string, models: () => Promise<{ id: string }[]>): ModelProvider => ({ id, models, chat: async () => Response.json({}) })
const never = () => new Promise<never>(() => {})
const silent = ({ signal }: { signal: AbortSignal }) => new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

describe('the catalog', () => {
  test('holds every provider’s models, sorted, and is the same array until something changes', async () => {
    let names = ['b', 'a']
    const { models, clock, events } = start([named('p', async () => names.map((id) => ({ id }))), named('o', async () => [{ id: 'a' }])])
    expect((await models.list()).map(({ id }) => id)).toEqual(['o/a', 'p/a', 'p/b'])
    expect(await models.list()).toBe(await models.list())
    names = ['c']
    await clock.advance(61_000)
    await models.list()
    await Bun.sleep(0)
    expect((await models.list()).map(({ id }) => id)).toEqual(['o/a', 'p/c'])
    expect(events).toEqual(['catalog p 2', 'catalog o 1', 'catalog p 1'])
  })

  test('is not held up by a provider that hangs: the others’ are there within a second, and at once from then on', async () => {
    const { models, clock } = start([named('hangs', never), named('p', async () => [{ id: 'a' }])])
    const list = models.list()
    await clock.advance(1_000)
    expect((await list).map(({ id }) => id)).toEqual(['p/a'])
    expect(await models.resolve('p/a')).toEqual({ provider: 'p', model: 'a' })
    await clock.advance(5_000)
    // Given up after its deadline, and asked again when needed.
    expect(models.providers()).toEqual([
      { id: 'hangs', state: 'ok', active: 0, models: 0 },
      { id: 'p', state: 'ok', active: 0, models: 1 },
    ])
  })

  test('keeps what it knew of a provider that fails later', async () => {
    let fails = false
    const { models, clock } = start([
      named('p', async () => {
        if (fails) throw new Error('down')
        return [{ id: 'a' }]
      }),
    ])
    await models.list()
    fails = true
    await clock.advance(61_000)
    await models.list()
    await Bun.sleep(0)
    expect((await models.list()).map(({ id }) => id)).toEqual(['p/a'])
  })

  test('follows providers that come and go', async () => {
    let providers: ModelProvider[] = [named('p', async () => [{ id: 'a' }])]
    const { models } = start([], { providers: () => providers })
    expect((await models.list()).map(({ id }) => id)).toEqual(['p/a'])
    providers = [...providers, named('q', async () => [{ id: 'b' }])]
    expect((await models.list()).map(({ id }) => id)).toEqual(['p/a', 'q/b'])
    providers = providers.slice(1)
    expect((await models.list()).map(({ id }) => id)).toEqual(['q/b'])
    expect(() => models.languageModel({ provider: 'p', model: 'a' })).toThrow('no provider "p"')
  })
})

describe('a name', () => {
  test('of a provider needs no catalog; a closed list is complete', async () => {
    const { models, codeOf } = start([named('open', never), { ...named('closed', async () => [{ id: 'a' }]), closed: true }])
    expect(models.resolve('open/any/thing')).toEqual({ provider: 'open', model: 'any/thing' })
    expect(await models.resolve('closed/a')).toEqual({ provider: 'closed', model: 'a' })
    expect(await codeOf(Promise.resolve().then(() => models.resolve('closed/b')))).toBe('model_not_found')
  })

  test('of an object’s own is no alias', async () => {
    const { models, codeOf } = start([named('p', async () => [{ id: 'a' }])], { aliases: { a1: 'p/a' } })
    expect(await models.resolve('a1')).toEqual({ provider: 'p', model: 'a' })
    for (const name of ['constructor', '__proto__', 'toString'])
      expect(await codeOf(Promise.resolve().then(() => models.resolve(name)))).toBe('model_not_found')
  })
})

describe('a provider that fails', () => {
  test('five times in a row is left alone for a second, then longer, and recovers with an answer', async () => {
    const provider = createScriptedProvider({ id: 'p', otherwise: { raw: () => Promise.reject(new Error('refused')) } })
    const { clock, events, call, codeOf } = start([provider])
    for (let n = 0; n < 5; n++) expect(await codeOf(call('p'))).toBe('upstream_error')
    expect(await codeOf(call('p'))).toBe('unavailable')
    expect(provider.calls).toHaveLength(5)
    await clock.advance(1_000)
    expect(await codeOf(call('p'))).toBe('upstream_error')
    expect(await codeOf(call('p'))).toBe('unavailable')
    await clock.advance(2_000)
    provider.push({ text: 'back' })
    expect(await call('p')).toBe(200)
    expect(events).toEqual(['degraded p unreachable 5 1000', 'degraded p unreachable 6 2000', 'recovered p 3000'])
  })

  test('now and then is not', async () => {
    const provider = createScriptedProvider({
      id: 'p',
      script: (call) => (provider.calls.indexOf(call) % 3 === 2 ? { text: 'ok' } : { error: { status: 503 } }),
    })
    const { events, call } = start([provider])
    for (let n = 0; n < 12; n++) await call('p')
    expect(events).toEqual([])
  })

  test('with errors of its own that are about the request is not', async () => {
    const provider = createScriptedProvider({ id: 'p', script: () => ({ error: { status: 500 } }) })
    const { events, call } = start([provider])
    for (let n = 0; n < 12; n++) expect(await call('p')).toBe(500)
    expect(events).toEqual([])
  })

  test('for clients that leave is not', async () => {
    const { events, call, codeOf } = start([{ id: 'p', models: async () => [], chat: silent }])
    for (let n = 0; n < 8; n++) {
      const leaving = new AbortController()
      const pending = codeOf(call('p', { signal: leaving.signal }))
      leaving.abort(Object.assign(new Error('left'), { code: 'left' }))
      expect(await pending).toBe('left')
    }
    expect(events).toEqual([])
  })

  test('on our credential cools down at once, and one report is enough for many calls at once', async () => {
    const provider = createScriptedProvider({ id: 'p', otherwise: { error: { status: 401 }, delayMs: 5 } })
    const { clock, events, call, codeOf } = start([provider])
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => codeOf(call('p')))))).toEqual(new Set(['upstream_error']))
    expect(await codeOf(call('p'))).toBe('upstream_error')
    expect(provider.calls).toHaveLength(20)
    expect(events).toEqual(['unauthorized p 401 1000'])
    await clock.advance(1_000)
    provider.push({ text: 'ok' })
    expect(await call('p')).toBe(200)
    expect(events.at(-1)).toBe('recovered p 1000')
  })
})

describe('calls at once', () => {
  test('are capped for each provider, so that one that hangs starves no other', async () => {
    const hangs: ModelProvider = { id: 'hangs', maxConcurrent: 256, models: async () => [], chat: silent }
    const { models, call, codeOf } = start([hangs, createScriptedProvider({ id: 'p', otherwise: { text: 'hi' } })])
    const leaving = new AbortController()
    const pending = Array.from({ length: 256 }, () => codeOf(call('hangs', { signal: leaving.signal })))
    expect(models.providers()[0]).toMatchObject({ active: 256 })
    expect(await codeOf(call('hangs'))).toBe('rate_limit_exceeded')
    expect(await call('p')).toBe(200)
    leaving.abort(Object.assign(new Error('left'), { code: 'left' }))
    await Promise.all(pending)
    expect(models.providers()[0]).toMatchObject({ active: 0 })
  })

  test('count until the body was read', async () => {
    const provider = { ...createScriptedProvider({ id: 'p', otherwise: { text: 'a b c' } }), maxConcurrent: 1 }
    const { models, codeOf, call } = start([provider])
    const body = new TextEncoder().encode('{"stream":true}')
    const first = await models.call('chat', { provider: 'p', model: 'm', body, signal: new AbortController().signal })
    expect(await codeOf(call('p'))).toBe('rate_limit_exceeded')
    first.abort()
    first.done()
    expect(models.providers()[0]).toMatchObject({ active: 0 })
    expect(await call('p')).toBe(200)
  })
})

test('a price is the published one of the provider’s address, else none', async () => {
  const { models } = start([
    { ...named('openai', async () => []), baseUrl: 'https://api.openai.com/v1' },
    { ...named('local', async () => []), baseUrl: 'http://127.0.0.1:9000/v1' },
  ])
  const usage = { inputTokens: 1_000_000, outputTokens: 1_000_000 }
  const price = await models.prices.cost({ provider: 'openai', model: 'gpt-4o-mini' }, usage)
  expect(price).toBeCloseTo(0.75, 5)
  expect(await models.prices.cost({ provider: 'openai', model: 'gpt-4o-mini' }, { ...usage, cacheReadTokens: 500_000 })).toBeLessThan(price!)
  expect(await models.prices.cost({ provider: 'openai', model: 'no-such-model' }, usage)).toBeNull()
  expect(await models.prices.cost({ provider: 'local', model: 'gpt-4o-mini' }, usage)).toBeNull()
  expect(await models.prices.cost({ provider: 'nobody', model: 'x' }, usage)).toBeNull()
})
