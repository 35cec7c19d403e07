/** `portico/plugins/models/testing`: a provider that says what a test wants it to say, and remembers what it was asked. */
import { definePlugin, type Plugin } from 'portico'
import { type ChatAnswer, chatResponse, type ModelProvider, modelProviders, type ToolCall, type WireRequest, wireError } from './contract.ts'

/** One answer. The first of `raw`, `error`, `toolCalls` and `text` that is there counts. */
export interface ScriptStep {
  /** Streamed word by word when the request asks for a stream. */
  readonly text?: string
  /** `arguments` as a value. */
  readonly toolCalls?: readonly { readonly name: string; readonly arguments: unknown; readonly id?: string }[]
  /** An error of the upstream. */
  readonly error?: { readonly status: number; readonly message?: string; readonly type?: string; readonly code?: string; readonly retryAfter?: number }
  /** Whatever it is; a rejection is an upstream that cannot be reached. */
  readonly raw?: (call: ScriptedCall) => Response | Promise<Response>
  readonly finishReason?: ChatAnswer['finishReason']
  /** Default: words. */
  readonly usage?: ChatAnswer['usage']
  /** ms before the head. */
  readonly delayMs?: number
  /** ms before each frame of a stream. */
  readonly frameDelayMs?: number
}

/** One call as it came in. */
export interface ScriptedCall {
  readonly kind: 'chat' | 'embeddings'
  readonly model: string
  /** The body, parsed. */
  readonly body: Record<string, unknown>
  readonly bytes: Uint8Array
  readonly headers: Readonly<Record<string, string>>
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal
}

/** How it is made. */
export interface ScriptedProviderOptions {
  /** Default `scripted`: its models are `scripted/NAME`. */
  readonly id?: string
  /** Default `model`. */
  readonly models?: readonly string[]
  /** Used up in order; then `otherwise`, and without it the call fails. A function answers every call. */
  readonly script?: readonly ScriptStep[] | ((call: ScriptedCall) => ScriptStep)
  readonly otherwise?: ScriptStep
}

/** The provider, with what a test looks at. */
export interface ScriptedProvider extends ModelProvider {
  /** In the order in which they came. */
  readonly calls: readonly ScriptedCall[]
  /** Steps that were not used. */
  readonly left: number
  /** More steps. */
  push(...steps: ScriptStep[]): void
  /** A plugin that brings this provider: `startTestGateway({ plugins: [provider.plugin] })`. */
  readonly plugin: Plugin
}

/** Makes one. Its answers are the same each time: ids count up, the time stands still. */
export function createScriptedProvider(options: ScriptedProviderOptions = {}): ScriptedProvider {
  const { id = 'scripted', models = ['model'], script = [], otherwise } = options
  const steps = typeof script === 'function' ? [] : [...script]
  const calls: ScriptedCall[] = []

  async function answer(kind: ScriptedCall['kind'], { body: bytes, model, signal, headers = {} }: WireRequest): Promise<Response> {
    const call: ScriptedCall = { kind, model, bytes, signal, headers, body: JSON.parse(new TextDecoder().decode(bytes)) }
    calls.push(call)
    const step = typeof script === 'function' ? script(call) : (steps.shift() ?? otherwise)
    if (!step) throw new Error(`The scripted provider "${id}" was called ${calls.length} times, but its script has no step for it; add one, or otherwise.`)
    if (step.delayMs) await pause(step.delayMs, signal)
    return toResponse(step, call, `${id}-${calls.length}`)
  }

  const provider: ScriptedProvider = {
    id,
    closed: true,
    calls,
    get left() {
      return steps.length
    },
    push: (...more) => void steps.push(...more),
    models: async () => models.map((name) => ({ id: name, ownedBy: 'scripted' })),
    chat: (request) => answer('chat', request),
    embeddings: (request) => answer('embeddings', request),
    get plugin() {
      return definePlugin({
        id: `scripted-${id}`,
        version: '0.0.0',
        api: 1,
        summary: 'A scripted provider',
        adds: [modelProviders],
        setup: (ctx) => ctx.add(modelProviders, provider),
      })
    },
  }
  return provider
}

function toResponse(step: ScriptStep, call: ScriptedCall, id: string): Response | Promise<Response> {
  if (step.raw) return step.raw(call)
  if (step.error) {
    const { status, message = 'A scripted error.', type = 'server_error', code = null, retryAfter } = step.error
    return Response.json(wireError(message, { type, code }), { status, headers: retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) } })
  }
  if (call.kind === 'embeddings') {
    const input = Array.isArray(call.body.input) ? call.body.input : [call.body.input]
    const data = input.map((_, index) => ({ object: 'embedding', index, embedding: [index, 0.5, -0.5] }))
    return Response.json({ object: 'list', data, model: call.model, usage: { prompt_tokens: 1, total_tokens: 1 } })
  }
  const toolCalls = step.toolCalls?.map(
    (tool, index): ToolCall => ({ id: tool.id ?? `call_${id}_${index}`, name: tool.name, arguments: JSON.stringify(tool.arguments) }),
  )
  const text = toolCalls ? step.text : (step.text ?? '')
  const words = (text ?? '').match(/\s*\S+(?:\s+$)?/g) ?? []
  const { stream, stream_options: streamOptions, n } = call.body as { stream?: boolean; stream_options?: { include_usage?: boolean }; n?: number }
  const usage = step.usage ?? { promptTokens: 1, completionTokens: Math.max(1, words.length) }
  return chatResponse(
    { text, pieces: words, toolCalls, finishReason: step.finishReason, usage },
    {
      ...{ id, model: call.model, created: 1_767_225_600, stream, includeUsage: streamOptions?.include_usage === true, n },
      pause: step.frameDelayMs ? () => pause(step.frameDelayMs as number, call.signal) : undefined,
    },
  )
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const leave = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', leave)
      resolve()
    }, ms)
    signal.addEventListener('abort', leave, { once: true })
  })
}
