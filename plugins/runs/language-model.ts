/** Models for the AI SDK: the provider's own, or, for providers that speak OpenAI's wire form, one over the service `models`, with its caps, cooldowns and deadlines. */
import type { LanguageModelV4 as LanguageModel } from '@ai-sdk/provider'
import { GatewayError, isGatewayError } from 'portico'
import type { Models, ModelTarget } from 'portico/plugins/models'

/** Nothing is sent there: `fetch` is the service. */
const nowhere = 'http://models.invalid/v1'

/** Models that are kept. */
const maxMade = 200

/** Gives the model of a target. Those over the service are made once: their schemas cost half a millisecond. */
export function createLanguageModels(models: Models): (target: ModelTarget) => Promise<LanguageModel> {
  const made = new Map<string, LanguageModel>()
  return async (target) => {
    try {
      return models.languageModel(target) as LanguageModel
    } catch (error) {
      if (!isGatewayError(error) || error.code !== 'not_implemented') throw error
    }
    const id = `${target.provider}/${target.model}`
    const model = made.get(id) ?? (await makeModel(models, target))
    // Who is asked again comes last, who comes first goes.
    made.delete(id)
    made.set(id, model)
    if (made.size > maxMade) made.delete(made.keys().next().value as string)
    return model
  }
}

async function makeModel(models: Models, target: ModelTarget): Promise<LanguageModel> {
  const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible')
  const provider = createOpenAICompatible({
    ...{ name: target.provider, baseURL: nowhere, includeUsage: true, fetch: throughModels(models, target) as typeof fetch },
    // Whether a provider takes the URL of an image is its own matter; nothing is fetched here.
    supportedUrls: () => ({ 'image/*': [/^https?:/] }),
  })
  return provider.chatModel(target.model) as unknown as LanguageModel
}

/** `fetch` of one call: the body goes through the service, which knows the provider's address and credential. */
function throughModels(models: Models, { provider, model }: ModelTarget) {
  return async (_: unknown, { body, signal }: RequestInit = {}): Promise<Response> => {
    const own = new AbortController()
    const abort = (reason: unknown) => own.abort(reason)
    const follow = () => abort(signal?.reason)
    if (signal?.aborted) follow()
    signal?.addEventListener('abort', follow, { once: true })
    const bytes = new TextEncoder().encode(String(body))
    const call = await models.call('chat', { provider, model, body: bytes, signal: own.signal, abort, headers: { accept: 'text/event-stream' } })
    const leave = () => signal?.removeEventListener('abort', follow)
    const ended = (how: () => void) => () => {
      leave()
      how()
    }
    const stream = call.body instanceof ReadableStream ? tapped(call.body, { done: ended(() => call.done()), abort: ended(() => call.abort()) }) : call.body
    if (!(call.body instanceof ReadableStream)) leave()
    const response = new Response(stream as BodyInit, { status: call.status, headers: call.headers })
    if (call.status >= 400 || call.headers.get('content-type')?.startsWith('text/event-stream')) return response
    return toStream(await response.text())
  }
}

/** The stream, and word of its end. */
function tapped(stream: ReadableStream<Uint8Array>, { done, abort }: { done(): void; abort(): void }): ReadableStream<Uint8Array> {
  const reader = stream.getReader()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done: isOver, value } = await reader.read()
          if (!isOver) return controller.enqueue(value)
          done()
          controller.close()
        } catch (error) {
          abort()
          controller.error(error)
        }
      },
      cancel(reason) {
        abort()
        return reader.cancel(reason).catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
}

/** An answer of a server that does not stream, as the stream it would have been. */
function toStream(text: string): Response {
  let answer: { choices?: { index?: number; message?: Record<string, unknown>; finish_reason?: string }[]; usage?: unknown; error?: unknown } = {}
  try {
    answer = JSON.parse(text)
  } catch (error) {
    throw unreadable(error)
  }
  const choices = (answer.choices ?? []).map(({ index = 0, message = {}, finish_reason = 'stop' }) => {
    const calls = (message.tool_calls as object[] | undefined)?.map((call, at) => ({ index: at, ...call }))
    return { index, delta: { ...message, ...(calls ? { tool_calls: calls } : {}) }, finish_reason }
  })
  const frames = `data: ${JSON.stringify({ ...answer, object: 'chat.completion.chunk', choices })}\n\ndata: [DONE]\n\n`
  return new Response(frames, { headers: { 'content-type': 'text/event-stream' } })
}

function unreadable(cause: unknown): GatewayError {
  return new GatewayError('upstream_error', 'The provider sent what is no JSON; try again.', { cause })
}
