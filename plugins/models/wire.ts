/** OpenAI's wire form of a chat answer, streamed and not, for providers that make answers themselves. */
import { encodeSse, sseHeaders } from 'portico/plugins/events'

/** A tool the model calls. */
export interface ToolCall {
  readonly id: string
  readonly name: string
  /** JSON. */
  readonly arguments: string
}

/** Tokens, as OpenAI counts them. */
export interface ChatUsage {
  readonly promptTokens: number
  readonly completionTokens: number
  /** Of the prompt. */
  readonly cachedTokens?: number
  /** Of the completion. */
  readonly reasoningTokens?: number
}

/** What a model says. */
export interface ChatAnswer {
  readonly text?: string
  /** The text in pieces as it is to be streamed; default one piece. */
  readonly pieces?: readonly string[]
  readonly toolCalls?: readonly ToolCall[]
  /** Default `tool_calls` when there are some, else `stop`. */
  readonly finishReason?: 'stop' | 'length' | 'tool_calls' | 'content_filter'
  readonly usage: ChatUsage
}

/** How it is said. */
export interface ChatResponseOptions {
  readonly id: string
  readonly model: string
  /** Seconds since the epoch. */
  readonly created: number
  readonly stream?: boolean
  /** `stream_options.include_usage`. */
  readonly includeUsage?: boolean
  /** How many choices; each is the same. */
  readonly n?: number
  readonly fingerprint?: string
  /** Awaited before each frame of a stream. */
  pause?(): Promise<void>
}

/** The answer as a `Response`: `chat.completion`, or `chat.completion.chunk` frames and `[DONE]`. */
export function chatResponse(answer: ChatAnswer, options: ChatResponseOptions): Response {
  if (!options.stream) return Response.json(completion(answer, options))
  const frames = chunks(answer, options)
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        await options.pause?.()
        const { done, value } = frames.next()
        if (!done) return controller.enqueue(encodeSse({ data: value }))
        controller.enqueue(encodeSse({ data: '[DONE]' }))
        controller.close()
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { headers: sseHeaders })
}

/** OpenAI's error body. */
export function wireError(message: string, options: { type: string; code?: string | null; param?: string | null }) {
  return { error: { message, type: options.type, param: options.param ?? null, code: options.code ?? null } }
}

function completion(answer: ChatAnswer, options: ChatResponseOptions) {
  const message = {
    role: 'assistant',
    content: answer.text ?? null,
    refusal: null,
    annotations: [],
    ...(answer.toolCalls?.length ? { tool_calls: answer.toolCalls.map(toWire) } : {}),
  }
  return {
    ...head('chat.completion', options),
    choices: indices(options).map((index) => ({ index, message, logprobs: null, finish_reason: finishOf(answer) })),
    usage: usageOf(answer.usage),
  }
}

function* chunks(answer: ChatAnswer, options: ChatResponseOptions): Generator<unknown> {
  const common = head('chat.completion.chunk', options)
  const usage = options.includeUsage ? { usage: null } : {}
  const chunk = (index: number, delta: unknown, finish: string | null = null) => ({
    ...common,
    choices: [{ index, delta, logprobs: null, finish_reason: finish }],
    ...usage,
  })
  const text = answer.text ?? null
  for (const index of indices(options)) {
    yield chunk(index, { role: 'assistant', content: text === null ? null : '', refusal: null })
    for (const content of text === null ? [] : (answer.pieces ?? [text])) yield chunk(index, { content })
    for (const [position, call] of (answer.toolCalls ?? []).entries()) {
      yield chunk(index, { tool_calls: [{ index: position, id: call.id, type: 'function', function: { name: call.name, arguments: '' } }] })
      for (const piece of call.arguments.match(/[\s\S]{1,16}/gu) ?? [])
        yield chunk(index, { tool_calls: [{ index: position, function: { arguments: piece } }] })
    }
    yield chunk(index, {}, finishOf(answer))
  }
  if (options.includeUsage) yield { ...common, choices: [], usage: usageOf(answer.usage) }
}

function head(object: string, { id, model, created, fingerprint }: ChatResponseOptions) {
  return { id, object, created, model, service_tier: 'default', system_fingerprint: fingerprint ?? null }
}

function indices({ n = 1 }: ChatResponseOptions): number[] {
  return Array.from({ length: n }, (_, index) => index)
}

function finishOf(answer: ChatAnswer): string {
  return answer.finishReason ?? (answer.toolCalls?.length ? 'tool_calls' : 'stop')
}

function toWire(call: ToolCall) {
  return { id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } }
}

/** As OpenAI writes it. */
export function usageOf(usage: ChatUsage) {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens ?? 0, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: usage.reasoningTokens ?? 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  }
}
