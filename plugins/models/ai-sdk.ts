/** OpenAI's wire form over a language model of the AI SDK: for providers that speak something else. Loaded when the first of them is called. */
import type {
  LanguageModelV4CallOptions as CallOptions,
  LanguageModelV4FilePart as FilePart,
  LanguageModelV4 as LanguageModel,
  LanguageModelV4Message as Message,
  LanguageModelV4StreamPart as StreamPart,
  LanguageModelV4TextPart as TextPart,
  LanguageModelV4Usage as Usage,
} from '@ai-sdk/provider'
import { GatewayError } from 'portico'
import { encodeSse, sseHeaders } from 'portico/plugins/events'
import type { WireRequest } from './contract.ts'
import { type ChatAnswer, type ChatUsage, chatResponse, usageOf, wireError } from './wire.ts'

/** What is read of a request. https://platform.openai.com/docs/api-reference/chat/create */
interface ChatBody {
  messages?: unknown
  stream?: boolean
  stream_options?: { include_usage?: boolean } | null
  n?: number | null
  logprobs?: boolean | null
  audio?: unknown
  max_tokens?: number | null
  max_completion_tokens?: number | null
  temperature?: number | null
  top_p?: number | null
  presence_penalty?: number | null
  frequency_penalty?: number | null
  seed?: number | null
  stop?: string | string[] | null
  tools?: { type?: string; function?: { name?: string; description?: string; parameters?: object } }[] | null
  tool_choice?: string | { type?: string; function?: { name?: string } } | null
  response_format?: { type?: string; json_schema?: { name?: string; description?: string; schema?: object } } | null
  reasoning_effort?: string | null
}

interface WireMessage {
  role?: string
  content?: unknown
  tool_calls?: { id?: string; function?: { name?: string; arguments?: string } }[]
  tool_call_id?: string
}

type FinishReason = NonNullable<ChatAnswer['finishReason']>
const finishReasons: Readonly<Record<string, FinishReason>> = { stop: 'stop', length: 'length', 'content-filter': 'content_filter', 'tool-calls': 'tool_calls' }
const efforts = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
let calls = 0

/** Answers a chat request. Errors of the provider come back as its own, with OpenAI's body; it rejects only when no answer could be had. */
export async function chatOver(model: LanguageModel, { body, signal }: WireRequest): Promise<Response> {
  const request = JSON.parse(new TextDecoder().decode(body)) as ChatBody
  const head = { id: `chatcmpl-${Date.now().toString(36)}${(++calls).toString(36)}`, created: Math.floor(Date.now() / 1_000), model: model.modelId }
  try {
    const options = toOptions(request, signal)
    if (request.stream !== true) {
      const { content, finishReason, usage } = await model.doGenerate(options)
      const text = content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('')
      const toolCalls = content.flatMap((part) =>
        part.type === 'tool-call' ? [{ id: part.toolCallId, name: part.toolName, arguments: part.input || '{}' }] : [],
      )
      return chatResponse({ text: text || undefined, toolCalls, finishReason: finishReasons[finishReason.unified] ?? 'stop', usage: toUsage(usage) }, head)
    }
    const { stream } = await model.doStream(options)
    const frames = toFrames(stream, { ...head, includeUsage: request.stream_options?.include_usage === true })
    return new Response(frames, { headers: sseHeaders })
  } catch (error) {
    return toResponse(error)
  }
}

// --- the request ---

function toOptions(body: ChatBody, abortSignal: AbortSignal): CallOptions {
  if ((body.n ?? 1) !== 1) throw wrong('n', 'this provider gives one choice; ask once for each.')
  if (body.logprobs) throw wrong('logprobs', 'this provider gives none.')
  if (body.audio) throw wrong('audio', 'this provider gives none.')
  if (!Array.isArray(body.messages) || body.messages.length === 0) throw wrong('messages', 'expected a list that is not empty.')
  const tools = body.tools?.map(({ function: tool }, index) => {
    if (!tool?.name) throw wrong(`tools[${index}]`, 'expected a function with a name.')
    return {
      ...{ type: 'function' as const, name: tool.name, description: tool.description },
      inputSchema: (tool.parameters ?? { type: 'object', properties: {} }) as never,
    }
  })
  const effort = efforts.find((each) => each === body.reasoning_effort)
  const given = <T>(value: T | null | undefined): T | undefined => value ?? undefined
  return {
    abortSignal,
    prompt: toPrompt(body.messages as WireMessage[]),
    maxOutputTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    temperature: given(body.temperature),
    topP: given(body.top_p),
    presencePenalty: given(body.presence_penalty),
    frequencyPenalty: given(body.frequency_penalty),
    seed: given(body.seed),
    stopSequences: typeof body.stop === 'string' ? [body.stop] : given(body.stop),
    ...(tools?.length ? { tools, toolChoice: toChoice(body.tool_choice) } : {}),
    responseFormat: toFormat(body.response_format),
    ...(effort ? { reasoning: effort } : {}),
  }
}

function toChoice(choice: ChatBody['tool_choice']): CallOptions['toolChoice'] {
  if (choice === undefined || choice === null) return undefined
  if (choice === 'auto' || choice === 'none' || choice === 'required') return { type: choice }
  const name = typeof choice === 'object' ? choice.function?.name : undefined
  if (!name) throw wrong('tool_choice', 'expected auto, none, required, or a function by its name.')
  return { type: 'tool', toolName: name }
}

function toFormat(format: ChatBody['response_format']): CallOptions['responseFormat'] {
  if (!format || format.type === 'text') return undefined
  if (format.type === 'json_object') return { type: 'json' }
  const { name, description, schema } = format.json_schema ?? {}
  if (format.type !== 'json_schema' || !schema) throw wrong('response_format', 'expected text, json_object, or json_schema with a schema.')
  return { type: 'json', name, description, schema: schema as never }
}

function toPrompt(messages: readonly WireMessage[]): Message[] {
  const toolNames = new Map<string, string>()
  return messages.map((message, index): Message => {
    const at = `messages[${index}]`
    const { role, content, tool_calls: toolCalls = [], tool_call_id: id = '' } = message ?? {}
    if (role === 'system' || role === 'developer') return { role: 'system', content: textOf(content, at) }
    if (role === 'user') return { role: 'user', content: toParts(content, at) }
    if (role === 'assistant') {
      const text = content === null || content === undefined ? '' : textOf(content, at)
      const made = toolCalls.map((call) => {
        const toolName = call.function?.name ?? ''
        toolNames.set(call.id ?? '', toolName)
        return { type: 'tool-call' as const, toolCallId: call.id ?? '', toolName, input: parsed(call.function?.arguments ?? '{}', at) }
      })
      return { role, content: [...(text === '' ? [] : [{ type: 'text' as const, text }]), ...made] }
    }
    if (role === 'tool') {
      const toolName = toolNames.get(id)
      if (toolName === undefined) throw wrong(`${at}.tool_call_id`, 'no message before it calls a tool by this id.')
      return { role, content: [{ type: 'tool-result', toolCallId: id, toolName, output: { type: 'text', value: textOf(content, at) } }] }
    }
    throw wrong(`${at}.role`, 'expected system, developer, user, assistant or tool.')
  })
}

function textOf(content: unknown, at: string): string {
  if (typeof content === 'string') return content
  return toParts(content, at)
    .map((part) => {
      if (part.type === 'text') return part.text
      throw wrong(`${at}.content`, 'only a message of the user may hold images.')
    })
    .join('')
}

function toParts(content: unknown, at: string): (TextPart | FilePart)[] {
  if (typeof content === 'string') return [{ type: 'text', text: content }]
  if (!Array.isArray(content)) throw wrong(`${at}.content`, 'expected a text, or a list of parts.')
  return content.map((part: { type?: string; text?: string; image_url?: { url?: string } }) => {
    if (part?.type === 'text' && typeof part.text === 'string') return { type: 'text', text: part.text }
    const url = part?.type === 'image_url' ? part.image_url?.url : undefined
    if (typeof url !== 'string' || !URL.canParse(url)) throw wrong(`${at}.content`, 'expected parts of type text, and image_url with a URL.')
    const inline = /^data:([\w.+-]+\/[\w.+-]+);base64,(.*)$/s.exec(url)
    if (inline) return { type: 'file', mediaType: inline[1] ?? '', data: { type: 'data', data: inline[2] ?? '' } }
    if (!/^https?:/.test(url)) throw wrong(`${at}.content`, 'an image is a URL of http or https, or a data: URL in base64.')
    return { type: 'file', mediaType: 'image/*', data: { type: 'url', url: new URL(url) } }
  })
}

function parsed(json: string, at: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw wrong(`${at}.tool_calls`, 'the arguments are no JSON.', error)
  }
}

function wrong(param: string, why: string, cause?: unknown): GatewayError {
  return new GatewayError('validation_failed', `${param}: ${why}`, { param, cause })
}

// --- the answer ---

function toUsage({ inputTokens, outputTokens }: Usage): ChatUsage {
  return {
    promptTokens: inputTokens.total ?? 0,
    completionTokens: outputTokens.total ?? 0,
    cachedTokens: inputTokens.cacheRead ?? 0,
    reasoningTokens: outputTokens.reasoning ?? 0,
  }
}

interface Head {
  readonly id: string
  readonly created: number
  readonly model: string
  readonly includeUsage: boolean
}

/** Frames of `chat.completion.chunk`. An answer that is not whole fails the stream: whoever relays it says so. */
function toFrames(parts: ReadableStream<StreamPart>, { includeUsage, ...head }: Head): ReadableStream<Uint8Array> {
  const reader = parts.getReader()
  const common = { object: 'chat.completion.chunk', ...head, service_tier: 'default', system_fingerprint: null }
  const chunk = (delta: object, finish: string | null = null) =>
    encodeSse({ data: { ...common, choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], ...(includeUsage ? { usage: null } : {}) } })
  const tools = new Map<string, number>()
  let isOpen = false

  function frames(part: StreamPart): Uint8Array[] {
    switch (part.type) {
      case 'text-delta':
        return [chunk({ content: part.delta })]
      case 'tool-input-start':
        tools.set(part.id, tools.size)
        return [toolChunk(part.id, { id: part.id, type: 'function', function: { name: part.toolName, arguments: '' } })]
      case 'tool-input-delta':
        return [toolChunk(part.id, { function: { arguments: part.delta } })]
      case 'tool-call': {
        if (tools.has(part.toolCallId)) return []
        tools.set(part.toolCallId, tools.size)
        return [toolChunk(part.toolCallId, { id: part.toolCallId, type: 'function', function: { name: part.toolName, arguments: part.input } })]
      }
      case 'raw':
        // Nobody asks for these but a model that says it is still at work.
        return [encodeSse({ comment: 'ping' })]
      case 'error':
        throw part.error
      case 'finish': {
        // The SDK gives a reason also to an answer that broke off; the provider's own is missing then.
        if (part.finishReason.raw === undefined) throw new Error('the answer ended before it was whole')
        const usage = includeUsage ? [encodeSse({ data: { ...common, choices: [], usage: usageOf(toUsage(part.usage)) } })] : []
        return [chunk({}, finishReasons[part.finishReason.unified] ?? 'stop'), ...usage, encodeSse({ data: '[DONE]' })]
      }
      default:
        return []
    }
  }
  const toolChunk = (id: string, call: object) => chunk({ tool_calls: [{ index: tools.get(id) ?? 0, ...call }] })

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (!isOpen) {
          isOpen = true
          return controller.enqueue(chunk({ role: 'assistant', content: '', refusal: null }))
        }
        for (;;) {
          const { done, value } = await reader.read()
          if (done) return controller.close()
          const made = frames(value)
          for (const frame of made) controller.enqueue(frame)
          if (made.length > 0) return
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

// --- errors ---

/** An error status of the provider as OpenAI would say it; everything else is thrown on. */
function toResponse(error: unknown): Response {
  const { statusCode, responseHeaders, message } = error as { statusCode?: number; responseHeaders?: Record<string, string>; message?: string }
  if (statusCode === undefined || statusCode < 400) throw error
  // Anthropic's "overloaded" is a number nobody else knows.
  const status = statusCode === 529 ? 503 : statusCode
  const type = status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error'
  const retryAfter = responseHeaders?.['retry-after']
  return Response.json(wireError(message ?? `The provider answered ${status}.`, { type }), {
    status,
    headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter },
  })
}
