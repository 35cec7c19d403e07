/** Models of OpenAI, Anthropic and Google through `/v1/chat/completions`, with a real OpenAI client, against servers that speak as their public documentation says. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import OpenAI from 'openai'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { type ProviderServer, startProviderServer } from '../fixtures/provider-wire.ts'
import { until } from '../fixtures/until.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

const text = 'Hello there, Ångström.'
const tool = {
  type: 'function' as const,
  function: { name: 'get_weather', description: 'The weather', parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } },
}
const image = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  let openai: Upstream
  const servers = {} as Record<'anthropic' | 'google', ProviderServer>
  let client: OpenAI
  beforeAll(async () => {
    openai = await startUpstream({ models: ['gpt-5-mini'] })
    for (const kind of ['anthropic', 'google'] as const) servers[kind] = await startProviderServer(kind)
    const config = [
      `[models.providers.openai]\ntype = "openai"\nbaseUrl = "${openai.url}"\napiKey = "sk-canary-openai"`,
      `[models.providers.anthropic]\ntype = "anthropic"\nbaseUrl = "${servers.anthropic.url}"\napiKey = "sk-canary-anthropic"`,
      `[models.providers.google]\ntype = "google"\nbaseUrl = "${servers.google.url}"\napiKey = "sk-canary-google"`,
    ].join('\n')
    gateway = await spawnGateway({ runtime, config })
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: gateway.token, maxRetries: 0 })
  }, 60_000)
  afterAll(async () => {
    await gateway?.stop()
    for (const server of [openai, ...Object.values(servers)]) await server?.stop()
  })

  test('their models are listed', async () => {
    const ids: string[] = []
    await until(async () => {
      ids.splice(0)
      for await (const { id } of client.models.list()) ids.push(id)
      return ids.length >= 5
    })
    expect(ids).toEqual(['anthropic/claude-sonnet-4-5', 'demo/echo', 'demo/tools', 'google/gemini-2.5-flash', 'openai/gpt-5-mini'])
  })

  test('OpenAI’s own wire form is forwarded as it is', async () => {
    const answer = await client.chat.completions.create({ model: 'openai/gpt-5-mini', messages: [{ role: 'user', content: 'hello' }] })
    expect(answer.choices[0]?.message.content).toBe('hello')
    expect(openai.requests.at(-1)?.headers.authorization).toBe('Bearer sk-canary-openai')
  })

  describe.each([
    ['anthropic', 'anthropic/claude-sonnet-4-5'],
    ['google', 'google/gemini-2.5-flash'],
  ] as const)('%s', (kind, model) => {
    const ask = (more: object = {}) => client.chat.completions.create({ model, messages: [{ role: 'user', content: 'hi' }], ...more } as never) as any
    const stream = async (more: object = {}) => {
      const chunks: any[] = []
      for await (const chunk of await ask({ stream: true, ...more })) chunks.push(chunk)
      return chunks
    }
    const last = () => servers[kind].requests.at(-1)

    test('text, with its usage and reason', async () => {
      const { choices, usage, object } = await ask({
        max_tokens: 50,
        temperature: 0.5,
        stop: 'END',
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'hi' },
        ],
      })
      expect([object, choices[0].message.content, choices[0].finish_reason]).toEqual(['chat.completion', text, 'stop'])
      expect(usage).toMatchObject({ prompt_tokens: 15, completion_tokens: 5, total_tokens: 20, prompt_tokens_details: { cached_tokens: 3 } })
      expect(JSON.stringify(last()?.body)).toContain('Be brief.')
      expect(last()?.headers[kind === 'anthropic' ? 'x-api-key' : 'x-goog-api-key']).toBe(`sk-canary-${kind}`)
      const sent = kind === 'anthropic' ? last()?.body : last()?.body.generationConfig
      expect(sent).toMatchObject(
        kind === 'anthropic'
          ? { max_tokens: 50, temperature: 0.5, stop_sequences: ['END'] }
          : { maxOutputTokens: 50, temperature: 0.5, stopSequences: ['END'] },
      )
    })

    test('a stream, whatever pieces it comes in', async () => {
      const chunks = await stream({ stream_options: { include_usage: true } })
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(text)
      expect(chunks.flatMap(({ choices }) => choices[0]?.finish_reason ?? [])).toEqual(['stop'])
      expect(chunks.at(-1).usage).toMatchObject({ prompt_tokens: 15, completion_tokens: 5 })
    })

    test('a tool call, streamed and not, and its result', async () => {
      for (const streamed of [false, true]) {
        servers[kind].say('tool')
        let calls: { id: string; function: { name: string; arguments: string } }[] = []
        if (streamed) {
          const chunks = await stream({ tools: [tool], tool_choice: 'required' })
          const parts = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? [])
          calls = [{ id: parts[0].id, function: { name: parts[0].function.name, arguments: parts.map((part) => part.function.arguments ?? '').join('') } }]
          expect(chunks.flatMap(({ choices }) => choices[0]?.finish_reason ?? [])).toEqual(['tool_calls'])
        } else {
          const { choices } = await ask({ tools: [tool], tool_choice: { type: 'function', function: { name: 'get_weather' } } })
          calls = choices[0].message.tool_calls
          expect(choices[0].finish_reason).toBe('tool_calls')
        }
        expect(calls.map(({ function: call }) => [call.name, JSON.parse(call.arguments)])).toEqual([['get_weather', { city: 'Rome' }]])
        const { choices } = await ask({
          tools: [tool],
          messages: [
            { role: 'user', content: 'The weather in Rome?' },
            { role: 'assistant', content: null, tool_calls: [{ id: calls[0]?.id, type: 'function', function: calls[0]?.function }] },
            { role: 'tool', tool_call_id: calls[0]?.id, content: 'sunny, 21 °C' },
          ],
        })
        expect(choices[0].message.content).toBe(text)
        expect(JSON.stringify(last()?.body)).toContain('sunny, 21 °C')
      }
    })

    test('an image, and an answer by a schema', async () => {
      const content = [
        { type: 'text', text: 'What is it?' },
        { type: 'image_url', image_url: { url: image } },
      ]
      const schema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'], additionalProperties: false }
      await ask({ messages: [{ role: 'user', content }], response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } } })
      const sent = JSON.stringify(last()?.body)
      expect(sent).toContain(image.split(',')[1] ?? '')
      expect(sent).toContain('image/png')
      expect(sent).toContain('"answer"')
    })

    test.each([
      ['limited', 429, '7'],
      ['overloaded', 503, null],
      ['bad', 400, null],
    ] as const)('%s is %d, with what the provider says', async (say, status, retryAfter) => {
      for (const more of [{}, { stream: true }]) {
        servers[kind].say(say)
        const error = await ask(more).catch((error: unknown) => error)
        expect([error.status, error.headers.get('retry-after'), error.message]).toEqual([status, retryAfter, expect.stringContaining('of it')])
      }
    })

    test('what cannot be said to it is 400, naming the field, and does not reach it', async () => {
      const before = servers[kind].requests.length
      for (const [more, param] of [
        [{ n: 2 }, 'n'],
        [{ logprobs: true }, 'logprobs'],
        [{ messages: [] }, 'messages'],
        [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
        [{ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'file:///etc/passwd' } }] }] }, 'messages[0].content'],
        [{ messages: [{ role: 'tool', tool_call_id: 'x', content: 'x' }] }, 'messages[0].tool_call_id'],
      ] as const) {
        const error = await ask(more).catch((error: unknown) => error)
        expect([more, error.status, error.param]).toEqual([more, 400, param])
      }
      expect(servers[kind].requests).toHaveLength(before)
    })

    test('an answer that breaks off ends in an error, never in [DONE]', async () => {
      servers[kind].say('truncated')
      const response = await gateway.fetch('/v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: 'hi' }] }),
      })
      const body = await response.text()
      expect(body).toContain('"code":"upstream_error"')
      expect(body).not.toContain('[DONE]')
    })

    test('a client that leaves is felt by it at once', async () => {
      servers[kind].say('hang')
      const leaving = await ask({ stream: true })
      for await (const chunk of leaving) if (chunk.choices[0]?.delta.content) break
      leaving.controller.abort()
      const at = performance.now()
      expect((await last()?.left) ?? Number.POSITIVE_INFINITY).toBeLessThan(at + 500)
    })

    test('its refusal of the gateway’s key is no 401 of the client, and the key stands nowhere', async () => {
      servers[kind].say('refused')
      const error = await ask().catch((error: unknown) => error)
      expect(error.status).toBe(502)
      expect(JSON.stringify(error)).not.toContain('canary')
      expect(gateway.stderr).not.toContain('canary')
    })
  })
})
