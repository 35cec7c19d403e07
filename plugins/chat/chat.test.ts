import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { createScriptedProvider } from 'portico/plugins/models/testing'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'

const provider = createScriptedProvider({ otherwise: { text: 'one two three', usage: { promptTokens: 7, completionTokens: 3 } } })
const maxMessages = 12
let gateway: TestGateway
const keys: Record<string, string> = {}
beforeAll(async () => {
  gateway = await startTestGateway({
    plugins: [provider.plugin],
    listen: true,
    config: `[chat]\nmessageRateLimit = { maxMessages = ${maxMessages}, windowMs = 60000 }\nsystem = "Be brief."\n[runs]\nmaxMessages = 6\nmaxSessions = 3\nmaxImages = 100\nmaxContext = 1000\n`,
  })
  for (const name of ['ann', 'bob']) keys[name] = (await gateway.json('/api/keys', { method: 'POST', body: { name, owner: name } })).body.key
})
afterAll(() => gateway.stop())
beforeEach(() => gateway.events.clear())

const chat = (body: unknown, as = keys.ann, headers: Record<string, string> = {}) => gateway.json('/api/chat', { method: 'POST', as, body, headers })
const history = async (query = '', as = keys.ann) => (await gateway.json(`/api/chat/history${query}`, { as })).body.messages
const lastCall = () => provider.calls.at(-1)?.body as { model: string; messages: { role: string; content: unknown }[] }

/** The frames of a stream: event and data. */
async function frames(response: Response) {
  const text = await response.text()
  return text
    .split('\n\n')
    .filter((block) => block.includes('event: '))
    .map((block) => {
      const [, event = '', data = ''] = /^event: (.*)\ndata: (.*)$/m.exec(block) ?? []
      return { event, data: JSON.parse(data) }
    })
}
const stream = (body: object, as = keys.ann) =>
  gateway.fetch('/api/chat/stream', { method: 'POST', as, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })

describe('POST /api/chat', () => {
  test('answers for both seeds at once', async () => {
    const { status, body } = await chat({ message: 'hello', context: '' })
    expect(status).toBe(200)
    expect(body).toEqual({
      ...{ response: 'one two three', message: 'one two three', model: 'scripted/model', finishReason: 'stop' },
      ...{ sessionKey: expect.stringMatching(/^sess_/), runId: expect.stringMatching(/^run_/) },
      ...{ tokensUsed: { input: 7, output: 3, total: 10 }, tokens_used_estimate: 10 },
    })
  })

  test('goes on in the session, with what was said before', async () => {
    const { sessionKey } = (await chat({ message: 'first' })).body
    await chat({ message: 'second', sessionKey })
    expect(lastCall().messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'first' },
      { role: 'assistant', content: 'one two three' },
      { role: 'user', content: 'second' },
    ])
  })

  test('context and images go with their message only', async () => {
    const image = 'data:image/png;base64,iVBORw0KGgo='
    const { sessionKey } = (await chat({ message: 'look', context: ['It rains.', 'It is late.'], images: [image] })).body
    const parts = [
      { type: 'text', text: 'look' },
      { type: 'image_url', image_url: { url: image } },
    ]
    expect(lastCall().messages).toEqual([
      { role: 'system', content: 'Be brief.\n\nContext:\nIt rains.\n\nIt is late.' },
      { role: 'user', content: parts },
    ])
    await chat({ message: 'and now', sessionKey })
    expect(lastCall().messages.map(({ content }) => content)).toEqual(['Be brief.', 'look', 'one two three', 'and now'])
  })

  test('images stay in the session as far as the bound allows; of others it says that they were there', async () => {
    const [small, large, link] = ['data:image/png;base64,iVBORw0KGgo=', `data:image/png;base64,${'A'.repeat(100)}`, 'https://images.example/cat.png']
    await chat({ message: 'look', sessionKey: 'pictures', images: [large, small, link] })
    expect((await history('?sessionKey=pictures')).map(({ role, images }: Record<string, unknown>) => [role, images])).toEqual([
      ['user', [null, small, link]],
      ['assistant', []],
    ])
  })

  test('what was said before goes along as far as the bound allows, and never begins with an answer', async () => {
    for (const message of ['one', 'x'.repeat(980), 'three']) await chat({ message, sessionKey: 'long' })
    expect(lastCall().messages.map(({ content }) => (content as string).slice(0, 13))).toEqual(['Be brief.', 'xxxxxxxxxxxxx', 'one two three', 'three'])
    await chat({ message: 'four', sessionKey: 'long' })
    expect(lastCall().messages.map(({ content }) => content)).toEqual(['Be brief.', 'three', 'one two three', 'four'])
    expect(await history('?sessionKey=long')).toHaveLength(6)
  })

  test('the header X-Portico-Model beats `model`, and the session goes on with its model', async () => {
    const { body } = await chat({ message: 'hi', model: 'scripted/model' }, keys.ann, { 'x-portico-model': 'demo/echo' })
    expect([body.model, body.response]).toEqual(['demo/echo', 'hi'])
    expect((await chat({ message: 'again', sessionKey: body.sessionKey })).body.model).toBe('demo/echo')
  })

  test('what the database has no place for is kept as U+FFFD, of a question, an answer and an image; nothing is halved', async () => {
    provider.push({ text: 'a\0b\ud800' })
    const image = 'https://images.example/\0\ud800'
    const { status, body } = await chat({ message: 'x\0y\udc00', sessionKey: 'odd', model: 'scripted/model', images: [image] })
    expect([status, body.response]).toEqual([200, 'a\ufffdb\ufffd'])
    expect((await history('?sessionKey=odd')).map(({ content, images }: Record<string, unknown>) => [content, images])).toEqual([
      ['x\ufffdy\ufffd', ['https://images.example/\ufffd\ufffd']],
      ['a\ufffdb\ufffd', []],
    ])
    await chat({ message: `${'x'.repeat(199)}😀`, sessionKey: 'long-emoji' })
    const { data } = await gateway.events.waitFor('message:received', ({ subject }) => subject === 'long-emoji')
    expect((data as { preview: string }).preview).toBe('x'.repeat(199))
    const { sessions } = (await gateway.json('/api/chat/sessions?limit=1', { as: keys.ann })).body
    expect(sessions[0].title).toBe(`${'x'.repeat(59)}…`)
  })

  test.each([
    [{}, '400 validation_failed'],
    [{ message: '' }, '400 validation_failed'],
    [{ message: 'x', agentId: 'nobody' }, '404 not_found'],
    [{ message: 'x', model: 'scripted/other' }, '404 model_not_found'],
    [{ message: 'x', sessionKey: 'sess_000000000000000000' }, '404 not_found'],
    [{ message: 'x', sessionKey: '../etc' }, '400 validation_failed'],
    [{ message: 'x', images: ['file:///etc/passwd'] }, '400 validation_failed'],
    [{ message: 'x', images: ['data:image/png;base64,no base64'] }, '400 validation_failed'],
  ])('%j is %s', async (body, expected) => {
    const answer = await chat(body)
    expect(`${answer.status} ${answer.body.error.code}`).toBe(expected)
  })

  test('needs the scope rpc', async () => {
    const { key } = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'models', scopes: ['api'] } })).body
    expect((await chat({ message: 'x' }, key)).status).toBe(403)
    expect((await chat({ message: 'x' }, '')).status).toBe(401)
  })

  test.each([
    [{ error: { status: 500 } }, '502 upstream_error'],
    [{ error: { status: 400, message: 'sk-canary' } }, '502 upstream_error'],
    [{ error: { status: 429, retryAfter: 9 } }, '429 rate_limit_exceeded'],
    [
      { raw: () => new Response('data: {"choices":[{"delta":{"content":"half"}}]}\n\n', { headers: { 'content-type': 'text/event-stream' } }) },
      '502 upstream_error',
    ],
    [{ raw: () => new Response('data: nonsense\n\n', { headers: { 'content-type': 'text/event-stream' } }) }, '502 upstream_error'],
    [{ raw: () => new Response('{"error":{"message":"sk-canary"}}', { headers: { 'content-type': 'application/json' } }) }, '502 upstream_error'],
  ])('an upstream that fails is an error, never half an answer: %#', async (step, expected) => {
    provider.push(step)
    const { status, headers, body } = await chat({ message: 'x', model: 'scripted/model' })
    expect(`${status} ${body.error.code}`).toBe(expected)
    expect(JSON.stringify(body)).not.toContain('canary')
    if (status === 429) expect(headers.get('retry-after')).toBe('9')
  })

  test('a server that does not stream is read too', async () => {
    provider.push({ raw: () => Response.json({ choices: [{ message: { content: 'whole' }, finish_reason: 'stop' }] }) })
    expect((await chat({ message: 'x', model: 'scripted/model' })).body).toMatchObject({ response: 'whole', tokens_used_estimate: 2 })
  })

  test('503 when there is no model at all', async () => {
    await using bare = await startTestGateway({ config: '[provider-demo]\nenabled = false\n' })
    const { status, body } = await bare.json('/api/chat', { method: 'POST', body: { message: 'x' } })
    expect([status, body.error.code]).toEqual([503, 'unavailable'])
    expect(body.error.message).toContain('Ollama')
  })
})

describe('/api/chat/stream', () => {
  test('sends the session at once, tokens with what there is so far, and one done', async () => {
    const [session, ...rest] = await frames(await stream({ message: 'hello' }))
    expect(session).toEqual({
      event: 'session',
      data: { sessionKey: expect.stringMatching(/^sess_/), runId: expect.stringMatching(/^run_/), model: 'scripted/model' },
    })
    // Words that come together may go out together.
    let said = ''
    for (const { event, data } of rest.slice(0, -1)) {
      said += data.delta
      expect({ event, data }).toEqual({ event: 'token', data: { delta: expect.any(String), accumulated: said } })
    }
    expect(said).toBe('one two three')
    expect(rest.at(-1)).toMatchObject({ event: 'done', data: { response: 'one two three', finishReason: 'stop', sessionKey: session?.data.sessionKey } })
  })

  test('tokens come without what there is so far, when that is not wanted', async () => {
    const all = await frames(await stream({ message: 'hello', accumulated: false }))
    const tokens = all.filter(({ event }) => event === 'token').map(({ data }) => data)
    expect(tokens.flatMap(Object.keys)).toEqual(tokens.map(() => 'delta'))
    expect(tokens.map(({ delta }) => delta).join('')).toBe('one two three')
  })

  test('an EventSource that comes again after the end is stopped, and its message not sent twice', async () => {
    const url = '/api/chat/stream?message=once&sessionKey=once'
    const id = /^id: (run_\w+)$/m.exec(await (await gateway.fetch(url, { as: keys.ann })).text())?.[1] ?? ''
    expect((await gateway.fetch(url, { as: keys.ann, headers: { 'last-event-id': id } })).status).toBe(204)
    expect(await history('?sessionKey=once')).toHaveLength(2)
  })

  test('GET does the same', async () => {
    const all = await frames(await gateway.fetch('/api/chat/stream?message=hello&agentId=default', { as: keys.ann }))
    expect(all.map(({ event }) => event)).toEqual(['session', 'token', 'token', 'token', 'done'])
    expect((await gateway.fetch('/api/chat/stream', { as: keys.ann })).status).toBe(400)
  })

  test('a dead upstream ends it in `error`, never in `done`; what came of the answer is kept, and says so', async () => {
    const encoder = new TextEncoder()
    provider.push({
      raw: () => {
        const body = new ReadableStream({
          pull(controller) {
            controller.enqueue(encoder.encode('data: {"choices":[{"delta":{"content":"half"}}]}\n\n'))
            controller.close()
          },
        })
        return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
      },
    })
    const all = await frames(await stream({ message: 'die', model: 'scripted/model', sessionKey: 'dead' }))
    expect(all.map(({ event }) => event)).toEqual(['session', 'token', 'error'])
    expect(all.at(-1)?.data).toEqual({ code: 'upstream_error', message: expect.stringContaining('not whole'), requestId: expect.any(String) })
    expect((await history('?sessionKey=dead')).at(-1)).toMatchObject({ role: 'assistant', content: 'half', finishReason: 'error' })
  })

  test('a client that leaves takes the upstream with it within 100 ms; what came is kept as cancelled', async () => {
    provider.push({ text: 'never ends '.repeat(10_000), frameDelayMs: 5 })
    const leaving = new AbortController()
    const response = await gateway.fetch('/api/chat/stream', {
      ...{ method: 'POST', as: keys.ann, signal: leaving.signal, headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ message: 'long', model: 'scripted/model', sessionKey: 'left' }),
    })
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    while (!new TextDecoder().decode((await reader.read()).value).includes('event: token'));
    const { signal } = provider.calls.at(-1) as { signal: AbortSignal }
    const aborted = new Promise<number>((resolve) => signal.addEventListener('abort', () => resolve(performance.now())))
    const at = performance.now()
    leaving.abort()
    expect((await aborted) - at).toBeLessThan(100)
    await gateway.events.waitFor('message:sent', ({ subject }) => subject === 'left')
    expect((await history('?sessionKey=left')).at(-1)).toMatchObject({
      role: 'assistant',
      finishReason: 'cancelled',
      content: expect.stringContaining('never'),
    })
  })

  test('revoking the key ends it in an error that says so', async () => {
    const { id, key } = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'short' } })).body
    provider.push({ text: 'on and on '.repeat(10_000), frameDelayMs: 5 })
    const response = await stream({ message: 'x', model: 'scripted/model' }, key)
    const reading = frames(response)
    await gateway.json(`/api/keys/${id}`, { method: 'DELETE' })
    expect((await reading).at(-1)).toMatchObject({ event: 'error', data: { code: 'invalid_api_key' } })
  })
})

describe('/ws/chat', () => {
  async function open(as = keys.ann) {
    const socket = new WebSocket(`${gateway.url?.replace('http', 'ws')}/ws/chat`, { headers: { authorization: `Bearer ${as}` } } as never)
    const got: Record<string, any>[] = []
    socket.onmessage = ({ data }) => got.push(JSON.parse(data as string))
    await new Promise((resolve, reject) => {
      socket.onopen = resolve
      socket.onerror = reject
    })
    const next = async (type: string, count = 1) => {
      await until(() => got.filter((frame) => frame.type === type).length >= count)
      return got.filter((frame) => frame.type === type).at(-1) as Record<string, any>
    }
    return { socket, got, next }
  }

  test('a text frame is the message; deltas, then done; the next goes on in the same session', async () => {
    const { socket, got, next } = await open()
    socket.send('hello')
    const done = await next('done')
    const deltas = got.filter(({ type }) => type === 'delta').map(({ delta }) => delta)
    expect(deltas.join('')).toBe('one two three')
    expect(done).toMatchObject({ type: 'done', response: 'one two three', sessionKey: expect.stringMatching(/^sess_/) })
    socket.send(JSON.stringify({ message: 'again', model: 'demo/echo' }))
    expect(await next('done', 2)).toMatchObject({ response: 'again', model: 'demo/echo', sessionKey: done.sessionKey })
    socket.close()
  })

  test('what is wrong is an error frame, and the socket stays', async () => {
    const { socket, next } = await open()
    for (const [index, wrong] of ['', '{"message":""}', '{"message":"x","model":7}', '{"message":"x","sessionKey":"../x"}', new Uint8Array([1])].entries()) {
      socket.send(wrong as string)
      expect(await next('error', index + 1)).toMatchObject({ type: 'error', code: 'validation_failed', message: expect.any(String) })
    }
    socket.send('{"model":"no message, so it is a text"}')
    await next('done')
    socket.close()
  })

  test('a session that was deleted meanwhile is followed by a new one; one that was named is not', async () => {
    const { socket, next } = await open()
    socket.send('hello')
    const { sessionKey } = await next('done')
    await gateway.json(`/api/chat/sessions/${sessionKey}`, { as: keys.ann, method: 'DELETE' })
    socket.send(JSON.stringify({ message: 'x', sessionKey }))
    expect(await next('error')).toMatchObject({ code: 'not_found' })
    socket.send('hello again')
    expect((await next('done', 2)).sessionKey).not.toBe(sessionKey)
    socket.close()
  })

  test('more than eight waiting messages are refused; a socket that closes ends its turn', async () => {
    const { socket, got, next } = await open()
    provider.push({ text: 'long '.repeat(10_000), frameDelayMs: 5 })
    for (let message = 0; message < 9; message++) socket.send('x')
    expect(await next('error')).toMatchObject({ code: 'rate_limit_exceeded' })
    await until(() => got.some(({ type }) => type === 'delta'))
    const { signal } = provider.calls.at(-1) as { signal: AbortSignal }
    socket.close()
    await until(() => signal.aborted)
  })

  test('a connection that sends more messages than its window has room for is told when it may go on; another is not concerned', async () => {
    const { socket, got, next } = await open()
    for (let message = 0; message < maxMessages; message++) socket.send('')
    socket.send('one too many')
    expect(await next('error', maxMessages + 1)).toEqual({
      ...{ type: 'error', code: 'rate_limit_exceeded', requestId: expect.any(String), retryAfter: expect.any(Number) },
      message: expect.stringContaining(`More than ${maxMessages} messages`),
    })
    expect(got.slice(0, -1).map(({ code }) => code)).toEqual(Array(maxMessages).fill('validation_failed'))
    socket.close()
    const another = await open()
    another.socket.send('hello')
    await another.next('done')
    another.socket.close()
  })
})

describe('sessions', () => {
  test('belong to one principal: for others they do not exist, and their names are free', async () => {
    const { sessionKey } = (await chat({ message: 'mine' })).body
    await chat({ message: 'mine too', sessionKey: 'notes' })
    expect((await chat({ message: 'x', sessionKey }, keys.bob)).status).toBe(404)
    expect((await gateway.json(`/api/chat/history?sessionKey=${sessionKey}`, { as: keys.bob })).status).toBe(404)
    expect((await gateway.fetch(`/api/chat/sessions/${sessionKey}`, { as: keys.bob, method: 'DELETE' })).status).toBe(404)
    await chat({ message: 'of bob', sessionKey: 'notes' }, keys.bob)
    expect((await history('?sessionKey=notes', keys.bob)).map(({ content }: { content: string }) => content)).toEqual(['of bob', 'one two three'])
    expect((await history('?sessionKey=notes')).map(({ content }: { content: string }) => content)).toEqual(['mine too', 'one two three'])
  })

  test('of a key that is gone can be found and deleted by an administrator, and by nobody else', async () => {
    const made = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'leaves' } })).body
    const { sessionKey } = (await chat({ message: 'left behind' }, made.key)).body
    const principals = async () => (await gateway.json('/api/chat/principals?limit=200')).body.principals as { principal: string; sessions: number }[]
    const before = await principals()
    await chat({ message: 'another' }, made.key)
    const [mine] = await principals()
    expect(JSON.stringify((await gateway.json('/v1/runs?limit=200')).body.data)).toContain(sessionKey)
    expect(mine).toMatchObject({ sessions: 2 })
    expect(before[0]).toMatchObject({ principal: mine?.principal, sessions: 1 })
    await gateway.json(`/api/keys/${made.id}`, { method: 'DELETE' })
    expect((await gateway.json('/api/chat/sessions', { as: made.key })).status).toBe(401)
    const path = `/api/chat/principals/${encodeURIComponent(String(mine?.principal))}`
    expect((await gateway.json(path, { as: keys.ann, method: 'DELETE' })).status).toBe(403)
    expect((await gateway.json('/api/chat/principals', { as: keys.ann })).status).toBe(403)
    // Two at once share them.
    const ended = await Promise.all([1, 2].map(() => gateway.json(path, { method: 'DELETE' })))
    expect(ended.reduce((sum, { body }) => sum + (body.deleted ?? 0), 0)).toBe(2)
    expect(ended.map(({ status }) => status).filter((status) => status !== 200 && status !== 404)).toEqual([])
    expect((await principals()).map(({ principal }) => principal)).not.toContain(mine?.principal)
    expect((await gateway.json(path, { method: 'DELETE' })).status).toBe(404)
    expect(JSON.stringify((await gateway.json('/v1/runs?limit=200')).body.data)).not.toContain(sessionKey)
    await gateway.events.waitFor('audit:event', ({ data }) => (data as { route: string }).route === '/api/chat/principals/:principal')
  })

  test('history is by session and channel, in pages, oldest first', async () => {
    await chat({ message: 'a', sessionKey: 'paged', channelId: 'desk' })
    await chat({ message: 'b', sessionKey: 'paged', channelId: 'desk' })
    const all = await history('?channelId=desk')
    expect(all.map(({ role, content }: Record<string, string>) => `${role}: ${content}`)).toEqual([
      'user: a',
      'assistant: one two three',
      'user: b',
      'assistant: one two three',
    ])
    expect(await history(`?sessionKey=paged&limit=1&before=${all[2].id}`)).toEqual([all[1]])
    expect(await history('?channelId=nowhere')).toEqual([])
  })

  test('are bounded, in messages and in number, and deleted with their messages', async () => {
    for (const message of ['1', '2', '3', '4', '5']) await chat({ message, sessionKey: 'bounded' })
    expect((await history('?sessionKey=bounded')).map(({ content }: { content: string }) => content)).toEqual([
      ...['3', 'one two three', '4', 'one two three', '5', 'one two three'],
    ])
    for (const name of ['s1', 's2', 's3', 's4']) await chat({ message: name, sessionKey: name })
    const listed = (await gateway.json('/api/chat/sessions', { as: keys.ann })).body.sessions
    expect(listed.map(({ sessionKey }: { sessionKey: string }) => sessionKey)).toEqual(['s4', 's3', 's2'])
    expect((await gateway.json('/api/chat/sessions/s3', { as: keys.ann, method: 'DELETE' })).body).toMatchObject({ sessionKey: 's3', title: 's3' })
    expect(await history('?sessionKey=s3')).toEqual([])
  })

  test('are bounded before the answers are there too', async () => {
    // The others wait for it, and are left before their turn comes.
    provider.push({ text: 'long '.repeat(10_000), frameDelayMs: 5 })
    const open: Response[] = []
    for (let turn = 0; turn < 8; turn++) open.push(await stream({ message: `${turn}`, sessionKey: 'waiting', model: 'scripted/model' }))
    expect((await history('?sessionKey=waiting')).map(({ content }: { content: string }) => content)).toEqual(['2', '3', '4', '5', '6', '7'])
    for (const { body } of open) await body?.cancel()
  })

  test('each message is an event for its principal and administrators, with its beginning alone', async () => {
    await chat({ message: 'x'.repeat(500), sessionKey: 'told' })
    const received = await gateway.events.waitFor('message:received', ({ subject }) => subject === 'told')
    expect(received.data).toEqual({ sessionKey: 'told', channelId: 'api', model: 'scripted/model', preview: 'x'.repeat(200) })
    const sent = await gateway.events.waitFor('message:sent', ({ subject }) => subject === 'told')
    expect(sent.data).toMatchObject({ finishReason: 'stop', tokens: 10, preview: 'one two three' })
    expect((await gateway.events.waitFor('message:streaming', ({ subject }) => subject === 'told')).data).toMatchObject({ sessionKey: 'told', delta: 'one' })
    const { entries } = (await gateway.json('/api/activity?types=message:*', { as: keys.bob })).body
    expect(JSON.stringify(entries)).not.toContain('told')
  })
})

describe('the page', () => {
  test('is where browsers are sent, and nothing of it may load from elsewhere', async () => {
    const front = await gateway.fetch('/', { as: '', headers: { accept: 'text/html,*/*' }, redirect: 'manual' })
    expect([front.status, front.headers.get('location')]).toEqual([302, '/app/'])
    expect((await gateway.json('/', { as: '' })).body.name).toBe('portico')
    const page = await gateway.fetch('/app/', { as: '' })
    expect(page.headers.get('content-security-policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
    const html = await page.text()
    for (const [, file = ''] of html.matchAll(/(?:src|href)="(\/app\/[^"]+)"/g))
      expect([file, (await gateway.fetch(file, { as: '' })).status]).toEqual([file, 200])
    for (const file of ['marked.js', 'purify.js', 'markdown.js', 'sse.js', 'gateway.js', 'events.js']) {
      const { status, headers } = await gateway.fetch(`/app/${file}`, { as: '' })
      expect([file, status, headers.get('content-type')]).toEqual([file, 200, 'text/javascript; charset=utf-8'])
    }
  })

  test('has no other files, wherever a path points', async () => {
    for (const path of ['/app/chat.test.ts', '/app/../index.ts', '/app/..%2findex.ts', '/app/constructor', '/app/page/app.js'])
      expect([path, (await gateway.fetch(path, { as: '' })).status >= 400]).toEqual([path, true])
  })

  test('is gone with web.enabled = false, by the seed’s key too', async () => {
    await using without = await startTestGateway({ config: '[gateway]\nweb = { enabled = false }\n' })
    expect((await without.fetch('/app/', { as: '' })).status).toBe(404)
    expect((await without.fetch('/', { as: '', headers: { accept: 'text/html' } })).status).toBe(200)
  })
})
