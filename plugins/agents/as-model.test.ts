/** Agents under the names of models: a run, in OpenAI's form and in chat. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createScriptedProvider } from 'portico/plugins/models/testing'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'
import { createAgentProvider } from './as-model.ts'

const provider = createScriptedProvider({ otherwise: { text: 'done' } })
const config = `
[runs]
model = "scripted/model"
[agents.list.clerk]
description = "Keeps notes"
instructions = "You keep notes."
tools = ["current_time"]
[agents.list.asker]
tools = ["ask_user"]
[agents.list.nested]
model = "agent/clerk"
`
let gateway: TestGateway
let key: string
beforeAll(async () => {
  gateway = await startTestGateway({ plugins: [provider.plugin], config, configFile: true })
  key = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'client', scopes: ['api', 'rpc'] } })).body.key
}, 30_000)
afterAll(() => gateway.stop())

const hello = [{ role: 'user', content: 'hello' }]
const complete = (body: object) => gateway.json('/v1/chat/completions', { method: 'POST', body: { model: 'agent/clerk', messages: hello, ...body }, as: key })
const stream = async (body: object = {}, signal?: AbortSignal) =>
  gateway.fetch('/v1/chat/completions', {
    ...{ method: 'POST', as: key, headers: { 'content-type': 'application/json' }, signal },
    body: JSON.stringify({ model: 'agent/clerk', messages: hello, stream: true, ...body }),
  })
const frames = (text: string) =>
  text.split('\n\n').flatMap((frame) => (frame.startsWith('data: ') ? [frame === 'data: [DONE]' ? '[DONE]' : JSON.parse(frame.slice(6))] : []))
const lastBody = () => provider.calls.at(-1)?.body as { messages: { role: string; content: string }[]; temperature?: number; max_tokens?: number }
const runs = async () => (await gateway.json('/v1/runs', { as: key })).body.data as { run_id: string; agent_id: string; status: string }[]

describe('agent/<id> of /v1', () => {
  test('is listed with what it is for, but for `default`, of which nothing is said', async () => {
    const { body } = await gateway.json('/v1/models', { as: key })
    const agents = body.data.filter(({ id }: { id: string }) => id.startsWith('agent/'))
    expect(agents.map(({ id }: { id: string }) => id)).toEqual(['agent/asker', 'agent/clerk', 'agent/nested'])
    expect(agents[1]).toMatchObject({ object: 'model', owned_by: 'portico', description: 'Keeps notes' })
  })

  test('is a run of it, its own tools and all; the conversation is the caller’s', async () => {
    provider.push({ toolCalls: [{ name: 'current_time', arguments: {} }] }, { text: 'It is late.' })
    const { status, body } = await complete({
      ...{ temperature: 0.2, max_tokens: 50 },
      messages: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: 'I am Ann.' },
        { role: 'assistant', content: 'Hello Ann.' },
        { role: 'user', content: 'What time is it?' },
      ],
    })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      object: 'chat.completion',
      model: 'agent/clerk',
      choices: [{ message: { role: 'assistant', content: 'It is late.' }, finish_reason: 'stop' }],
    })
    expect(body.usage.total_tokens).toBe(body.usage.prompt_tokens + body.usage.completion_tokens)
    const { messages, temperature, max_tokens } = lastBody()
    expect([temperature, max_tokens]).toEqual([0.2, 50])
    expect(messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant', 'tool'])
    expect(messages[0]?.content).toStartWith('You keep notes.')
    expect(messages[0]?.content).toEndWith('Context:\nBe short.')
    expect(messages.slice(1, 4).map(({ content }) => content)).toEqual(['I am Ann.', 'Hello Ann.', 'What time is it?'])
    const [run] = await runs()
    expect(run).toMatchObject({ agent_id: 'clerk', status: 'completed' })
    // The caller keeps the conversation: the next call knows nothing of this one.
    await complete({})
    expect(lastBody().messages.map(({ role }) => role)).toEqual(['system', 'user'])
  })

  test('is streamed, with usage when asked for', async () => {
    provider.push({ text: 'one two three' })
    const response = await stream({ stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toStartWith('text/event-stream')
    const all = frames(await response.text())
    expect(all.at(-1)).toBe('[DONE]')
    expect(all[0].choices[0].delta.role).toBe('assistant')
    expect(all.map((frame) => frame.choices?.[0]?.delta.content ?? '').join('')).toBe('one two three')
    expect(all.at(-3).choices[0].finish_reason).toBe('stop')
    expect(all.at(-2).usage.total_tokens).toBeGreaterThan(0)
  })

  test('of another, of none, or with what an agent cannot do is refused by name', async () => {
    for (const [body, status, code, message] of [
      [{ model: 'agent/nobody' }, 404, 'model_not_found', 'There is no agent "nobody" here'],
      [{ tools: [{ type: 'function', function: { name: 'x' } }] }, 400, 'validation_failed', 'calls its own tools'],
      [{ response_format: { type: 'json_object' } }, 400, 'validation_failed', 'answers in text'],
      [{ messages: [...hello, { role: 'assistant', content: 'x' }] }, 400, 'validation_failed', 'the last one is to be the user’s'],
      [{ model: 'agent/nested' }, 501, 'not_implemented', 'no model of another agent'],
    ] as const) {
      const answer = await complete(body)
      expect([answer.status, answer.body.error.code]).toEqual([status, code])
      expect(answer.body.error.message).toContain(message)
    }
    expect((await gateway.json('/v1/models', { as: key })).status).toBe(200)
  })

  test('a model that fails is the answer’s status, or the stream’s error without [DONE]', async () => {
    provider.push({ error: { status: 400, message: 'too long' } })
    const refused = await complete({})
    expect([refused.status, refused.body.error.message]).toEqual([502, expect.stringContaining('too long')])
    provider.push({ error: { status: 400, message: 'too long' } })
    const text = await (await stream()).text()
    expect(text).toContain('"error"')
    expect(text).not.toContain('[DONE]')
  })

  const leaves: [how: string, begin: (signal: AbortSignal) => Promise<unknown>][] = [
    ['waits', (signal) => stream({ stream: false }, signal).then((response) => response.text())],
    [
      'reads a stream',
      async (signal) => {
        const reader = ((await stream()).body as ReadableStream<Uint8Array>).getReader()
        signal.addEventListener('abort', () => void reader.cancel())
        while (!(await reader.read()).done);
      },
    ],
  ]
  test.each(leaves)('a caller who %s and leaves cancels it', async (_, begin) => {
    provider.push({ text: 'never', delayMs: 60_000 })
    const leaving = new AbortController()
    const before = provider.calls.length
    const answer = begin(leaving.signal)
    await until(() => provider.calls.length > before)
    leaving.abort()
    await answer.catch(() => undefined)
    await until(async () => (await runs())[0]?.status === 'cancelled')
    expect(provider.calls.at(-1)?.signal.aborted).toBe(true)
  })

  test('one that comes is listed at once, one that goes is no more', async () => {
    const ids = async () => (await gateway.json('/v1/models', { as: key })).body.data.map(({ id }: { id: string }) => id)
    await gateway.json('/api/agents', { method: 'POST', body: { id: 'poet', description: 'Rhymes' } })
    await until(async () => (await ids()).includes('agent/poet'))
    await gateway.json('/api/agents/poet', { method: 'DELETE' })
    await until(async () => !(await ids()).includes('agent/poet'))
  })
})

test('a stream that has nothing to say for a while says that it is alive', async () => {
  const { promise: worked, resolve } = Promise.withResolvers<void>()
  const run = { id: 'run_1', state: 'completed', result: 'done', finishReason: 'stop', usage: { inputTokens: 1, outputTokens: 1 } }
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  async function* watch() {
    await begun
    yield { type: 'delta', id: '1', text: 'let me see ' }
    await worked
    yield { type: 'delta', id: '2', text: 'done' }
    yield { type: 'end', id: '3', run }
  }
  const alone = createAgentProvider({
    agents: { find: async () => ({ id: 'clerk' }) as never, list: async () => [] },
    runs: { submit: async () => run, watch } as never,
    silence: 10,
  })
  const body = new TextEncoder().encode(JSON.stringify({ model: 'clerk', messages: hello, stream: true }))
  const principal = { id: 'ann', kind: 'user', scopes: [], groups: [], via: 'test' } as const
  const response = (await alone.chat?.({ body, model: 'clerk', principal, signal: new AbortController().signal })) as Response
  let text = ''
  for await (const bytes of response.body as ReadableStream<Uint8Array>) {
    text += new TextDecoder().decode(bytes)
    if (text.includes(': ping')) begin()
    if (/let me see .*: ping/s.test(text)) resolve()
  }
  expect(text).toMatch(/: ping\n\n.*let me see /s)
  expect(text).toMatch(/let me see .*: ping\n\n.*done.*\[DONE\]/s)
})

describe('agent/<id> as the model of a message', () => {
  test('names the agent, and the conversation stays with it', async () => {
    const say = (body: object) => gateway.json('/api/chat', { method: 'POST', body, as: key })
    const first = (await say({ message: 'hi', model: 'agent/clerk' })).body
    expect(lastBody().messages[0]?.content).toStartWith('You keep notes.')
    await say({ message: 'again', sessionKey: first.sessionKey })
    expect(lastBody().messages[0]?.content).toStartWith('You keep notes.')
    expect(lastBody().messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user'])
    const other = await say({ message: 'x', model: 'agent/clerk', agentId: 'asker' })
    expect([other.status, other.body.error.code]).toEqual([400, 'validation_failed'])
    expect((await say({ message: 'x', model: 'agent/nobody' })).status).toBe(404)
  })
})
