import { describe, expect, test } from 'bun:test'
import { createFakeClock } from 'portico/testkit'
import { createDemoProvider } from './provider.ts'

const provider = createDemoProvider(createFakeClock())
const chat = async (model: string, body: object) =>
  provider.chat!({ model, body: new TextEncoder().encode(JSON.stringify({ model, ...body })), signal: new AbortController().signal })
const completion = async (model: string, body: object) => (await (await chat(model, body)).json()) as any
const chunks = async (model: string, body: object) => {
  const text = await (await chat(model, { ...body, stream: true })).text()
  const frames = text
    .split('\n\n')
    .filter(Boolean)
    .map((frame) => frame.replace(/^data: /, ''))
  expect(frames.pop()).toBe('[DONE]')
  return frames.map((frame) => JSON.parse(frame))
}
const messages = [
  { role: 'system', content: 'Be brief' },
  { role: 'user', content: 'one  two\nthree' },
]
const tool = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer', minimum: 1 } }, required: ['city', 'days'] },
  },
}

test('it is labelled as demo wherever it shows', async () => {
  for (const model of await provider.models(new AbortController().signal))
    expect(model).toMatchObject({ ownedBy: 'portico-demo', description: expect.stringContaining('Demo, not a model') })
  expect((await completion('echo', { messages })).system_fingerprint).toBe('portico-demo')
})

describe('demo/echo', () => {
  test('says the last user message again, in OpenAI’s published shape', async () => {
    const answer = await completion('echo', { messages, n: 2 })
    expect(answer).toMatchObject({ id: expect.stringMatching(/^chatcmpl-demo-/), object: 'chat.completion', created: 1_767_225_600, model: 'demo/echo' })
    expect(answer.choices).toEqual(
      [0, 1].map((index) => ({
        index,
        message: { role: 'assistant', content: 'one  two\nthree', refusal: null, annotations: [] },
        logprobs: null,
        finish_reason: 'stop',
      })),
    )
    expect(answer.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 })
  })

  test('streams it word by word, each choice with its finish, usage last and only when asked', async () => {
    const plain = await chunks('echo', { messages, n: 2 })
    for (const index of [0, 1]) {
      const own = plain.filter((chunk) => chunk.choices[0].index === index).map((chunk) => chunk.choices[0])
      expect(own.map(({ delta }) => delta.content)).toEqual(['', 'one', '  two', '\nthree', undefined])
      expect(own.map(({ finish_reason }) => finish_reason)).toEqual([null, null, null, null, 'stop'])
      expect(own[0].delta.role).toBe('assistant')
    }
    expect(plain.some((chunk) => 'usage' in chunk)).toBe(false)
    expect(new Set(plain.map(({ id, created, model }) => `${id} ${created} ${model}`)).size).toBe(1)
    const counted = await chunks('echo', { messages, stream_options: { include_usage: true } })
    expect(counted.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
    expect(counted.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 } })
  })

  test('names the images of a message', async () => {
    const content = [
      { type: 'text', text: 'look' },
      { type: 'image_url', image_url: { url: 'data:…' } },
    ]
    expect((await completion('echo', { messages: [{ role: 'user', content }] })).choices[0].message.content).toBe('look [image_url]')
  })

  test('takes no longer for a long message than for many short ones, and refuses a very long one', async () => {
    for (const content of ['a '.repeat(250_000), ' '.repeat(500_000), `${' '.repeat(250_000)}a${' '.repeat(250_000)}`, 'a'.repeat(500_000)]) {
      const begun = performance.now()
      const asked = { messages: [{ role: 'user', content }] }
      expect((await completion('echo', asked)).choices[0].message.content).toBe(content)
      expect((await chat('tools', { ...asked, tools: [tool] })).status).toBe(200)
      expect(performance.now() - begun).toBeLessThan(2_000)
    }
    const refused = await chat('echo', { messages: [{ role: 'user', content: 'a '.repeat(600_000) }] })
    expect([refused.status, ((await refused.json()) as { error: object }).error]).toEqual([400, expect.objectContaining({ code: 'context_length_exceeded' })])
  })

  test('refuses what is no chat', async () => {
    for (const [body, param] of [
      [{}, 'messages'],
      [{ messages: [] }, 'messages'],
      [{ messages: [null] }, 'messages'],
      [{ messages, n: 0 }, 'n'],
      [{ messages, n: 1_000_000 }, 'n'],
    ] as const) {
      const response = await chat('echo', body)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', param, code: null } })
    }
  })
})

describe('demo/tools', () => {
  const asked = { messages: [{ role: 'user', content: 'Weather for 3 days in "Oslo"' }], tools: [tool] }

  test('calls the first tool with arguments from its schema and the prompt, then says what it answered', async () => {
    const { choices } = await completion('tools', asked)
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { content: null, tool_calls: [{ type: 'function', function: { name: 'weather' } }] },
    })
    const [call] = choices[0].message.tool_calls
    expect(JSON.parse(call.function.arguments)).toEqual({ city: 'Oslo', days: 3 })
    const after = { ...asked, messages: [...asked.messages, choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'sunny' }] }
    expect((await completion('tools', after)).choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: 'The tool answered: sunny' } })
  })

  test('streams the same call in pieces', async () => {
    const whole = (await completion('tools', asked)).choices[0].message.tool_calls[0]
    const deltas = (await chunks('tools', asked)).flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? [])
    expect(deltas[0]).toMatchObject({ index: 0, id: whole.id, type: 'function', function: { name: 'weather', arguments: '' } })
    expect(deltas.map((delta: any) => delta.function.arguments).join('')).toBe(whole.function.arguments)
    expect(deltas.length).toBeGreaterThan(2)
  })

  test('takes the tool that is asked for, and none when none is', async () => {
    const two = { ...asked, tools: [tool, { type: 'function', function: { name: 'other' } }] }
    const chosen = await completion('tools', { ...two, tool_choice: { type: 'function', function: { name: 'other' } } })
    expect(chosen.choices[0].message.tool_calls[0].function).toEqual({ name: 'other', arguments: '{}' })
    for (const none of [{ ...two, tool_choice: 'none' }, { messages }]) expect((await completion('tools', none)).choices[0].finish_reason).toBe('stop')
  })
})
