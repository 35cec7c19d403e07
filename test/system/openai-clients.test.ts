/** The vendors' own clients against the gateway as a real process, before a real HTTP upstream. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { fileURLToPath } from 'node:url'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embed, embedMany, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { faults, startUpstream, type Upstream } from '../fixtures/upstream.ts'

const reader = fileURLToPath(new URL('../fixtures/plugins/reader.ts', import.meta.url))

describe.each([...runtimes])('on %s', (runtime) => {
  let upstream: Upstream
  let gateway: GatewayProcess
  let key: string
  let client: OpenAI
  let ai: ReturnType<typeof createOpenAICompatible>

  const makeKey = async (...more: string[]) => {
    const result = await runPortico(['keys', 'create', '--json', '--data-dir', gateway.dataDir, ...more], { runtime })
    if (result.code !== 0) throw new Error(result.stderr)
    return (JSON.parse(result.stdout) as { key: string }).key
  }
  const clientWith = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 })

  beforeAll(async () => {
    upstream = await startUpstream({ apiKey: 'sk-upstream', strictModels: true })
    const config = `plugins = [${JSON.stringify(reader)}]\n[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\napiKey = "env:UPSTREAM_KEY"\n[agents.list.parrot]\nmodel = "local/mock-small"\ndescription = "Repeats"\n`
    gateway = await spawnGateway({ runtime, config, env: { UPSTREAM_KEY: 'sk-upstream' } })
    key = await makeKey('clients')
    client = clientWith(key)
    ai = createOpenAICompatible({ name: 'portico', apiKey: key, baseURL: `${gateway.url}/v1`, includeUsage: true })
  }, 240_000)
  beforeEach(() => upstream.reset())
  afterAll(async () => {
    await gateway?.stop()
    await upstream?.stop()
  })

  const messages = [{ role: 'user' as const, content: 'hello brave world' }]
  const weather = {
    type: 'function' as const,
    function: { name: 'weather', description: 'The weather', parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } },
  }

  describe('the openai client', () => {
    test('lists models, and retrieves one by its name with a slash', async () => {
      const ids: string[] = []
      for await (const model of client.models.list()) ids.push(model.id)
      expect(ids).toEqual(expect.arrayContaining(['demo/echo', 'demo/tools', 'local/mock-small']))
      expect(await client.models.retrieve('local/mock-small')).toMatchObject({ id: 'local/mock-small', object: 'model', owned_by: 'mock' })
    })

    test('chats', async () => {
      for (const model of ['local/mock-small', 'mock-small', 'demo/echo']) {
        const answer = await client.chat.completions.create({ model, messages })
        expect(answer.choices[0]?.message.content).toBe('hello brave world')
        expect(answer.usage?.total_tokens).toBe(6)
      }
    })

    test('lists an agent as a model, chats with it and streams: each call is a run', async () => {
      const ids = (await client.models.list()).data.map(({ id }) => id)
      expect(ids).toContain('agent/parrot')
      const answer = await client.chat.completions.create({ model: 'agent/parrot', messages })
      expect(answer.choices[0]).toMatchObject({ message: { role: 'assistant', content: 'hello brave world' }, finish_reason: 'stop' })
      const stream = await client.chat.completions.create({ model: 'agent/parrot', messages, stream: true, stream_options: { include_usage: true } })
      const chunks = await Array.fromAsync(stream)
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('hello brave world')
      expect(chunks.at(-1)?.usage?.total_tokens).toBe(6)
      const { data } = (await (await gateway.fetch('/v1/runs?agent=parrot')).json()) as { data: { status: string }[] }
      expect(data.map(({ status }) => status)).toEqual(['completed', 'completed'])
      expect(await client.chat.completions.create({ model: 'agent/nobody', messages }).catch((error) => error)).toBeInstanceOf(OpenAI.NotFoundError)
      const { text } = await generateText({ model: ai('agent/parrot'), messages })
      expect(text).toBe('hello brave world')
    })

    test('streams, with usage', async () => {
      for (const model of ['local/mock-small', 'demo/echo']) {
        const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })
        let text = ''
        let usage: OpenAI.CompletionUsage | null | undefined
        let pieces = 0
        for await (const chunk of stream) {
          pieces++
          text += chunk.choices[0]?.delta.content ?? ''
          usage = chunk.usage ?? usage
        }
        expect(text).toBe('hello brave world')
        expect(pieces).toBeGreaterThan(4)
        expect(usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 })
      }
    })

    test('calls tools, and tells what they answered', async () => {
      for (const model of ['local/mock-small', 'demo/tools']) {
        const first = await client.chat.completions.create({ model, messages, tools: [weather] })
        const message = first.choices[0]?.message
        const call = message?.tool_calls?.[0]
        expect(first.choices[0]?.finish_reason).toBe('tool_calls')
        if (call?.type !== 'function' || !message) throw new Error('no tool call')
        expect(JSON.parse(call.function.arguments)).toEqual({ city: 'hello brave world' })
        const second = await client.chat.completions.create({
          model,
          tools: [weather],
          messages: [...messages, message, { role: 'tool', tool_call_id: call.id, content: 'sunny' }],
        })
        expect(second.choices[0]?.message.content).toContain('sunny')
      }
    })

    test('streams tool calls, images, several choices and structured answers through', async () => {
      const runner = client.chat.completions.stream({ model: 'local/mock-small', messages, tools: [weather], n: 2 })
      const final = await runner.finalChatCompletion()
      expect(final.choices.map(({ message: { tool_calls: calls } }) => calls?.[0]?.type === 'function' && calls[0].function.name)).toEqual([
        'weather',
        'weather',
      ])
      const content = [
        { type: 'text' as const, text: 'see' },
        { type: 'image_url' as const, image_url: { url: `data:image/png;base64,${'A'.repeat(100_000)}` } },
      ]
      const seen = await client.chat.completions.create({ model: 'local/mock-small', messages: [{ role: 'user', content }] })
      expect(seen.choices[0]?.message.content).toBe('see [1 image]')
      const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false }
      const structured = await client.chat.completions.create({
        model: 'local/mock-small',
        messages,
        response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
      })
      expect(JSON.parse(structured.choices[0]?.message.content ?? '')).toEqual({ city: 'hello brave world' })
    })

    test('embeds, in its default base64', async () => {
      const answer = await client.embeddings.create({ model: 'local/mock-embed', input: ['a', 'b'] })
      expect(upstream.requests.at(-1)?.json).toMatchObject({ encoding_format: 'base64' })
      expect(answer.data.map(({ embedding }) => embedding.length)).toEqual([8, 8])
      const floats = await client.embeddings.create({ model: 'local/mock-embed', input: 'a', encoding_format: 'float' })
      expect(answer.data[0]?.embedding[0]).toBeCloseTo(floats.data[0]?.embedding[0] as number, 5)
    })

    test('gets typed errors: 401, 403, 404, 429, 400', async () => {
      const chat = (from: OpenAI, model = 'local/mock-small') => from.chat.completions.create({ model, messages }).catch((error: unknown) => error)
      const unknown = await chat(clientWith('ptk_no_such'))
      expect(unknown).toBeInstanceOf(OpenAI.AuthenticationError)
      expect(unknown).toMatchObject({ status: 401, code: 'invalid_api_key', type: 'authentication_error' })
      const forbidden = await chat(clientWith(await makeKey('reader', '--scope', 'reading')))
      expect(forbidden).toBeInstanceOf(OpenAI.PermissionDeniedError)
      expect(forbidden).toMatchObject({ status: 403, code: 'insufficient_scope' })
      for (const model of ['nobody/x', 'local/not-there', 'demo/not-there']) {
        const missing = await chat(client, model)
        expect(missing).toBeInstanceOf(OpenAI.NotFoundError)
        expect(missing).toMatchObject({ status: 404, code: 'model_not_found' })
      }
      expect(await client.embeddings.create({ model: 'demo/echo', input: 'x' }).catch((error: unknown) => error)).toBeInstanceOf(OpenAI.NotFoundError)
      upstream.script(faults.rateLimited(7))
      const limited = await chat(client)
      expect(limited).toBeInstanceOf(OpenAI.RateLimitError)
      expect((limited as InstanceType<typeof OpenAI.RateLimitError>).headers?.get('retry-after')).toBe('7')
      const bad = await client.chat.completions.create({ messages } as never).catch((error: unknown) => error)
      expect(bad).toBeInstanceOf(OpenAI.BadRequestError)
      expect(bad).toMatchObject({ param: 'model' })
    })

    test('gets an error in the middle of a stream that breaks', async () => {
      upstream.script({ dieAfter: 2, midFrame: true })
      const stream = await client.chat.completions.create({ model: 'local/mock-small', messages, stream: true })
      const read = async () => {
        for await (const _ of stream);
      }
      const error = await read().then(
        () => null,
        (caught: unknown) => caught,
      )
      expect(error).toBeInstanceOf(OpenAI.APIError)
      expect(error).toMatchObject({ code: 'upstream_error' })
    })
  })

  describe('the AI SDK', () => {
    test('generates, streams with usage, and calls tools in a loop', async () => {
      const answer = await generateText({ model: ai('local/mock-small'), prompt: 'hello brave world', maxRetries: 0 })
      expect(answer.text).toBe('hello brave world')
      const streamed = streamText({ model: ai('local/mock-small'), prompt: 'hello brave world', maxRetries: 0 })
      let text = ''
      for await (const piece of streamed.textStream) text += piece
      expect(text).toBe('hello brave world')
      expect((await streamed.usage).totalTokens).toBe(6)
      for (const model of ['local/mock-small', 'demo/tools']) {
        const cities: string[] = []
        const looped = await generateText({
          model: ai(model),
          prompt: 'Oslo',
          maxRetries: 0,
          stopWhen: stepCountIs(3),
          tools: {
            weather: tool({
              description: 'The weather',
              inputSchema: jsonSchema<{ city: string }>({ type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }),
              execute: async ({ city }) => {
                cities.push(city)
                return 'sunny'
              },
            }),
          },
        })
        expect(cities).toEqual(['Oslo'])
        expect(looped.text).toContain('sunny')
      }
    })

    test('embeds', async () => {
      const model = ai.textEmbeddingModel('local/mock-embed')
      expect((await embed({ model, value: 'a', maxRetries: 0 })).embedding).toHaveLength(8)
      expect((await embedMany({ model, values: ['a', 'b', 'c'], maxRetries: 0 })).embeddings).toHaveLength(3)
    })

    test('gets errors with their status and message', async () => {
      const failing = async (model: string, apiKey = key) => {
        const provider = createOpenAICompatible({ name: 'portico', apiKey, baseURL: `${gateway.url}/v1` })
        const error = await generateText({ model: provider(model), prompt: 'x', maxRetries: 0 }).catch((caught: unknown) => caught)
        if (!APICallError.isInstance(error)) throw error
        return error
      }
      expect(await failing('local/mock-small', 'wrong')).toMatchObject({ statusCode: 401 })
      expect(await failing('nobody/x')).toMatchObject({ statusCode: 404, message: expect.stringContaining('does not exist') })
      upstream.script(faults.rateLimited(1))
      expect(await failing('local/mock-small')).toMatchObject({ statusCode: 429, isRetryable: true })
    })

    test('sees a broken stream as an error', async () => {
      upstream.script({ truncateAfter: 3 })
      let seen: unknown
      const streamed = streamText({
        model: ai('local/mock-small'),
        prompt: 'a b c d',
        maxRetries: 0,
        onError: ({ error }) => {
          seen = error
        },
      })
      for await (const _ of streamed.textStream);
      expect(seen).toBeDefined()
    })
  })
})
