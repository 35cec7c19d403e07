import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { definePlugin, defineScope } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { countTokens } from '../../test/fixtures/openai-wire.ts'
import { faults, startUpstream, type Upstream } from '../../test/fixtures/upstream.ts'

const reader = definePlugin({ id: 'reader', version: '0.1.0', api: 1, summary: 'Has a scope', scopes: [defineScope('reading', 'Read')], setup() {} })

let upstream: Upstream
let other: Upstream
let gateway: TestGateway

beforeAll(async () => {
  ;[upstream, other] = await Promise.all([startUpstream({ apiKey: 'sk-upstream' }), startUpstream({ models: ['mock-small', 'org/own'] })])
  const config = `
[models.providers.local]
type = "openai-compatible"
baseUrl = "${upstream.url}/"
apiKey = "sk-upstream"
headers = { x-team = "blue" }

[models.providers.other]
type = "openai-compatible"
baseUrl = "${other.url}"

[models.providers.tight]
type = "openai-compatible"
baseUrl = "${other.url}"
models = ["mock-small"]
maxConcurrent = 1
timeoutMs = 150

[models.providers.wrong-key]
type = "openai-compatible"
baseUrl = "${upstream.url}"
apiKey = "sk-wrong"
models = ["mock-small"]

[models.providers.gone]
type = "openai-compatible"
baseUrl = "http://127.0.0.1:1/v1"
models = ["a"]

[models.aliases]
fast = "local/mock-small"
`
  gateway = await startTestGateway({ config, listen: true, plugins: [reader] })
  // Waits for every provider's list.
  await gateway.json('/v1/models')
})
beforeEach(() => {
  upstream.reset()
  other.reset()
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([upstream?.stop(), other?.stop()])
})

const hello = { model: 'local/mock-small', messages: [{ role: 'user', content: 'hello brave new world' }] }
const post = (body: unknown, init: Parameters<TestGateway['fetch']>[1] = {}) =>
  gateway.fetch('/v1/chat/completions', {
    method: 'POST',
    ...init,
    headers: { 'content-type': 'application/json', ...(init?.headers as Record<string, string>) },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; message: string; type: string; param: string | null; requestId: string } }).error

describe('a forwarded request', () => {
  test('reaches the upstream byte for byte, but for the value of model', async () => {
    const body = `{ "messages": [{"role":"user","content":"\\u00e9 \\/ ü 😀 \\"model\\""}],\n "temperature": 1.0e-1, "seed": 12345678901234567890,"model" : "local\\/mock-small" , "x":{"model":"inner"}}`
    const response = await post(body, { headers: { 'idempotency-key': 'k1', 'openai-beta': 'x', 'x-secret': 'no', cookie: 'a=b' } })
    expect(response.status).toBe(200)
    await response.text()
    const seen = await upstream.waitForRequest()
    expect(seen.text).toBe(body.replace('"local\\/mock-small"', '"mock-small"'))
    expect(seen.headers['content-length']).toBe(String(seen.body.length))
    expect(seen.headers).toMatchObject({
      authorization: 'Bearer sk-upstream',
      'content-type': 'application/json',
      'accept-encoding': 'identity',
      'idempotency-key': 'k1',
      'openai-beta': 'x',
      'x-team': 'blue',
    })
    for (const name of ['x-secret', 'cookie', 'x-forwarded-for', 'x-api-key']) expect(seen.headers[name]).toBeUndefined()
    expect(JSON.stringify(seen.headers)).not.toContain(gateway.adminToken)
  })

  test('is answered byte for byte: status, type and body, whole or in pieces', async () => {
    const body = '{ "odd" :  [1.0, "\\u00e9"] }\n'
    for (const status of [200, 201, 400, 404, 422, 500]) {
      for (const pieces of [1, 3]) {
        upstream.script((_, answer) => {
          const headers = { 'content-type': 'application/vnd.odd+json; charset=utf-8', 'set-cookie': 'a=b', 'x-ratelimit-remaining-requests': '9' }
          answer.writeHead(status, { ...headers, 'openai-processing-ms': '3', 'x-odd': '1', ...(pieces === 1 ? { 'content-length': body.length } : {}) })
          for (let piece = 1; piece < pieces; piece++) answer.write(body.slice((piece - 1) * 4, piece * 4))
          answer.end(body.slice((pieces - 1) * 4))
        })
        const response = await post(hello)
        expect(response.status).toBe(status)
        expect(await response.text()).toBe(body)
        expect(response.headers.get('content-type')).toBe('application/vnd.odd+json; charset=utf-8')
        expect(response.headers.get('x-ratelimit-remaining-requests')).toBe('9')
        expect(response.headers.get('openai-processing-ms')).toBe('3')
        for (const name of ['set-cookie', 'x-odd']) expect(response.headers.get(name)).toBeNull()
      }
    }
  })

  test('streams the upstream’s bytes, however they are cut', async () => {
    const body = JSON.stringify({ ...hello, stream: true, stream_options: { include_usage: true }, n: 2 })
    const direct = await (
      await fetch(`${upstream.url}/chat/completions`, { method: 'POST', headers: { authorization: 'Bearer sk-upstream' }, body: body.replace('local/', '') })
    ).text()
    for (const seed of [1, 2, 3, 4, 5]) {
      upstream.script({ splitSeed: seed })
      const response = await post(body)
      expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
      expect((await response.text()).replaceAll(/chatcmpl-\d+/g, 'ID')).toBe(direct.replaceAll(/chatcmpl-\d+/g, 'ID'))
    }
  })

  test('streams as it comes: the first words are there before the last are said', async () => {
    upstream.script({ hang: { frames: 3 } })
    const response = await post({ ...hello, stream: true })
    const reader = response.body!.getReader()
    let text = ''
    while (!text.includes('brave')) text += new TextDecoder().decode((await reader.read()).value)
    await reader.cancel()
    await upstream.waitForAbort()
  })

  test('of 5 MB passes too', async () => {
    const content = 'a"b\\'.repeat(1_250_000)
    const response = await post({ ...hello, messages: [{ role: 'user', content }] })
    const answer = (await response.json()) as { choices: { message: { content: string } }[] }
    expect(answer.choices[0]!.message.content).toBe(content)
  })

  test('is refused with a reason when its model cannot be told', async () => {
    for (const [body, code, param] of [
      ['{"model":"a","model":"b"}', 'validation_failed', 'model'],
      ['{}', 'validation_failed', 'model'],
      ['{"model":7}', 'validation_failed', 'model'],
      ['[1]', 'invalid_json', null],
      ['{"model":', 'invalid_json', null],
      ['', 'invalid_json', null],
    ] as const) {
      const response = await post(body)
      expect(response.status).toBe(400)
      expect(await errorOf(response)).toMatchObject({ code, param, type: 'invalid_request_error', requestId: response.headers.get('x-request-id')! })
    }
    expect(upstream.requests).toHaveLength(0)
  })
})

describe('the name of a model', () => {
  test('leads to a provider: provider/model, alias, or the only one that has it', async () => {
    for (const [model, at, sent] of [
      ['local/anything-goes', upstream, 'anything-goes'],
      ['fast', upstream, 'mock-small'],
      ['mock-embed', upstream, 'mock-embed'],
      ['other/org/own', other, 'org/own'],
      ['org/own', other, 'org/own'],
    ] as const) {
      at.reset()
      expect((await post({ ...hello, model })).status).toBe(200)
      expect((await at.waitForRequest()).json).toMatchObject({ model: sent })
    }
  })

  test('that nobody has is a 404; one that several have names them', async () => {
    for (const [model, message] of [
      ['nobody/x', 'does not exist'],
      ['local/', 'does not exist'],
      ['tight/unlisted', 'does not exist'],
      ['demo/ecko', 'Did you mean "demo/echo"?'],
      ['agent/helper', 'no agent'],
      ['mock-small', 'local/mock-small, other/mock-small, tight/mock-small'],
    ] as const) {
      const response = await post({ ...hello, model })
      expect(response.status).toBe(404)
      const error = await errorOf(response)
      expect(error).toMatchObject({ code: 'model_not_found', param: 'model', type: 'not_found_error' })
      expect(error.message).toContain(message)
    }
  })

  test('is listed with its provider, aliases too, and found with its slash', async () => {
    const { body } = await gateway.json('/v1/models')
    const ids = body.data.map(({ id }: { id: string }) => id)
    expect(body.object).toBe('list')
    expect(ids).toEqual([...ids].sort())
    expect(ids).toEqual(expect.arrayContaining(['demo/echo', 'demo/tools', 'fast', 'local/mock-embed', 'other/org/own', 'tight/mock-small']))
    for (const id of ['demo/echo', 'demo%2Fecho', 'other/org/own', 'fast']) {
      const one = await gateway.json(`/v1/models/${id}`)
      expect(one.body).toMatchObject({ id: decodeURIComponent(id), object: 'model', created: expect.any(Number), owned_by: expect.any(String) })
    }
    expect((await gateway.json('/v1/models/local/none')).status).toBe(404)
    expect((await gateway.json('/v1/models/%ff')).status).toBe(400)
  })
})

describe('embeddings', () => {
  test('pass by the same way', async () => {
    const body = { model: 'local/mock-embed', input: ['a', 'b'], encoding_format: 'base64' }
    const answer = await gateway.json('/v1/embeddings', { method: 'POST', body })
    expect(answer.status).toBe(200)
    expect(answer.body.data).toHaveLength(2)
    expect((await upstream.waitForRequest()).text).toBe(JSON.stringify({ ...body, model: 'mock-embed' }))
  })

  test('of a provider without them are a clear 404', async () => {
    const answer = await gateway.json('/v1/embeddings', { method: 'POST', body: { model: 'demo/echo', input: 'x' } })
    expect(answer.status).toBe(404)
    expect(answer.body.error).toMatchObject({ code: 'model_not_found', message: expect.stringContaining('no embeddings') })
  })
})

describe('who may call', () => {
  test('is told in OpenAI’s shape what is missing', async () => {
    const anonymous = await gateway.fetch('/v1/models', { as: '' })
    expect(anonymous.status).toBe(401)
    expect(await errorOf(anonymous)).toMatchObject({ code: 'missing_credentials', param: null, type: 'authentication_error' })
    expect((await post(hello, { as: 'wrong' })).status).toBe(401)
    const { body: key } = await gateway.json('/api/keys', { method: 'POST', body: { name: 'reader', scopes: ['reading'] } })
    const refused = await post(hello, { as: key.key })
    expect(refused.status).toBe(403)
    expect(await errorOf(refused)).toMatchObject({ code: 'insufficient_scope', type: 'permission_error' })
    for (const scope of ['api', 'rpc']) {
      const { body: good } = await gateway.json('/api/keys', { method: 'POST', body: { name: scope, scopes: [scope] } })
      expect((await post(hello, { as: good.key })).status).toBe(200)
    }
  })

  test('no longer, loses the streams that run: an error frame and no [DONE]', async () => {
    const { body: key } = await gateway.json('/api/keys', { method: 'POST', body: { name: 'short' } })
    upstream.script({ hang: { frames: 2 } })
    const response = await post({ ...hello, stream: true }, { as: key.key })
    await gateway.json(`/api/keys/${key.id}`, { method: 'DELETE' })
    const text = await response.text()
    expect(text).not.toContain('[DONE]')
    expect(text).toMatch(/data: \{"error":\{[^\n]*"code":"invalid_api_key"[^\n]*\}\n\n$/)
    await upstream.waitForAbort()
  })
})

describe('an upstream that', () => {
  test('limits is heard: 429 with its Retry-After and its bytes', async () => {
    upstream.script(faults.rateLimited(3))
    const response = await post(hello)
    expect(response.status).toBe(429)
    expect(response.headers.get('retry-after')).toBe('3')
    expect(await response.text()).toBe(faults.rateLimited(3).body as string)
  })

  test('refuses our key is not the client’s fault: 502, an event, and no key in sight', async () => {
    const response = await post({ ...hello, model: 'wrong-key/mock-small' })
    expect(response.status).toBe(502)
    const error = await errorOf(response)
    expect(error.code).toBe('upstream_error')
    expect(error.message).toContain('[models.providers.wrong-key]')
    expect(JSON.stringify(error)).not.toContain('sk-')
    const event = await gateway.events.waitFor('model:auth_cooldown')
    expect(event.data).toMatchObject({ provider: 'wrong-key', status: 401 })
  })

  test('cannot be reached is a 502', async () => {
    const response = await post({ ...hello, model: 'gone/a' })
    expect(response.status).toBe(502)
    expect(await errorOf(response)).toMatchObject({ code: 'upstream_error', type: 'upstream_error' })
  })

  test('redirects is not followed', async () => {
    upstream.script({ status: 307, body: '', headers: { location: `${other.url}/chat/completions` } })
    expect((await post(hello)).status).toBe(502)
    expect(other.requests).toHaveLength(0)
  })

  test('does not answer in time is a 504, and is left alone', async () => {
    other.script(faults.silent)
    const response = await post({ ...hello, model: 'tight/mock-small' })
    expect(response.status).toBe(504)
    expect(await errorOf(response)).toMatchObject({ code: 'upstream_timeout' })
    await other.waitForAbort()
  })

  test('is full gets no more: 429 with Retry-After', async () => {
    other.script({ hang: { frames: 1 } })
    const first = await post({ ...hello, model: 'tight/mock-small', stream: true })
    const second = await post({ ...hello, model: 'tight/mock-small' })
    expect(second.status).toBe(429)
    expect(second.headers.get('retry-after')).toBe('1')
    // The first falls silent and is given up, which frees its place.
    expect(await first.text()).toContain('"code":"upstream_timeout"')
    expect((await post({ ...hello, model: 'tight/mock-small' })).status).toBe(200)
  })
})

describe('a broken answer', () => {
  const words = 'one two three four five six'

  test('of a stream ends in an error frame without [DONE], wherever it broke', async () => {
    for (let seed = 0; seed < 24; seed++) {
      const at = seed % 8
      upstream.script({ ...(seed % 2 ? { dieAfter: at } : { truncateAfter: at }), midFrame: seed % 3 > 0, splitSeed: seed, answer: words })
      const text = await (await post({ ...hello, stream: true })).text()
      expect(text).not.toContain('[DONE]')
      const frames = text.split('\n\n').filter(Boolean)
      // Every frame is whole, and the last one says why.
      const parsed = frames.map((frame) => JSON.parse(frame.replace(/^data: /, '')))
      expect(parsed.at(-1)).toMatchObject({ error: { code: 'upstream_error', type: 'upstream_error', message: expect.any(String) } })
      expect(parsed.slice(0, -1).every((entry) => entry.object === 'chat.completion.chunk')).toBe(true)
      expect(text.endsWith('\n\n')).toBe(true)
    }
  })

  test('that broke after [DONE] is whole', async () => {
    upstream.script({ dieAfter: 99 })
    const text = await (await post({ ...hello, stream: true })).text()
    expect(text).toEndWith('data: [DONE]\n\n')
  })

  test('that is not streamed has a broken body, never a clean one', async () => {
    for (const behaviour of [
      { dieAfter: 0 },
      { truncateAfter: 0 },
      { dieAfter: 0, answer: 'x'.repeat(3_000_000) },
      { truncateAfter: 0, answer: 'x'.repeat(3_000_000) },
    ]) {
      upstream.script(behaviour)
      const outcome = await post(hello)
        .then(
          async (response) => ({ status: response.status, text: await response.text() }),
          () => 'broken',
        )
        .catch(() => 'broken')
      expect(outcome).toBe('broken')
    }
    await upstream.idle()
  })
})

describe('a client that leaves', () => {
  test('before the head aborts the upstream within 100 ms', async () => {
    upstream.script(faults.silent)
    const leaving = new AbortController()
    const pending = post(hello, { signal: leaving.signal }).catch(() => 'left')
    await upstream.waitForRequest()
    const at = performance.now()
    leaving.abort()
    const seen = await upstream.waitForAbort()
    expect(await pending).toBe('left')
    expect(seen.abortedAt! - at).toBeLessThan(100)
  })

  test('in the middle of a stream aborts the upstream within 100 ms', async () => {
    for (const frames of [1, 3]) {
      upstream.reset()
      upstream.script({ hang: { frames } })
      const leaving = new AbortController()
      const response = await post({ ...hello, stream: true }, { signal: leaving.signal })
      const reader = response.body!.getReader()
      await reader.read()
      const at = performance.now()
      leaving.abort()
      const seen = await upstream.waitForAbort()
      expect(seen.abortedAt! - at).toBeLessThan(100)
    }
    await upstream.idle()
  })
})

test('demo models answer without an upstream', async () => {
  const { body } = await gateway.json('/v1/chat/completions', { method: 'POST', body: { ...hello, model: 'demo/echo' } })
  expect(body.choices[0].message.content).toBe('hello brave new world')
  expect(body.usage.completion_tokens).toBe(countTokens('hello brave new world'))
})

test('stopping lets streams finish until the deadline, then ends them in an error frame', async () => {
  const config = `[gateway]\nshutdownDeadlineMs = 1000\n[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\napiKey = "sk-upstream"\n`
  const stopping = await startTestGateway({ config })
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ...hello, stream: true }) }
  upstream.script({ frameDelayMs: 10 }, { path: '/v1/chat' })
  upstream.script({ hang: { frames: 2 } }, { path: '/v1/chat' })
  const short = await stopping.fetch('/v1/chat/completions', init)
  const long = await stopping.fetch('/v1/chat/completions', init)
  const [shortText, longText] = await Promise.all([short.text(), long.text(), stopping.stop()])
  expect(shortText).toEndWith('data: [DONE]\n\n')
  expect(longText).not.toContain('[DONE]')
  expect(longText).toMatch(/data: \{"error":\{[^\n]*"code":"unavailable"[^\n]*\}\n\n$/)
  await upstream.idle()
})
