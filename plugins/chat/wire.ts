/** One answer of a model, read from OpenAI's wire form as it comes. */
import { GatewayError } from 'portico'
import { readSse } from 'portico/plugins/events'
import type { Models, ModelTarget, WireCall } from 'portico/plugins/models'

/** A part of a message, as OpenAI's wire form has it. */
export type Part = { type: 'text'; text: string } | { type: 'image_url'; image_url: { url: string } }
/** A message to the model. */
export interface WireMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string | readonly Part[]
}

/** How an answer ended. */
export interface Ending {
  readonly finishReason: string
  readonly inputTokens: number
  readonly outputTokens: number
}

interface Chunk {
  choices?: { delta?: { content?: string | null }; message?: { content?: string | null }; finish_reason?: string | null }[]
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null
  error?: { message?: string; code?: string }
}

/** The longest answer, in characters. What comes after is cut off, and the upstream left. */
const longestAnswer = 2_000_000
const encoder = new TextEncoder()

/**
 * Yields the pieces, and returns how it ended. An upstream that fails, breaks off or ends without its `[DONE]` is a `GatewayError`.
 * Leaving it early, or aborting the signal, leaves the upstream at once.
 */
export async function* ask(
  models: Models,
  { provider, model }: ModelTarget,
  messages: readonly WireMessage[],
  signal: AbortSignal,
): AsyncGenerator<string, Ending> {
  const body = encoder.encode(JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }))
  const own = new AbortController()
  const abort = (reason: unknown) => own.abort(reason)
  const follow = () => abort(signal.reason)
  if (signal.aborted) follow()
  signal.addEventListener('abort', follow, { once: true })
  const call = await models.call('chat', { provider, model, body, signal: own.signal, abort, headers: { accept: 'text/event-stream' } })
  try {
    if (call.status >= 400) throw await refused(call, provider)
    return yield* read(call, provider)
  } finally {
    signal.removeEventListener('abort', follow)
    // After its end this does nothing.
    call.abort()
  }
}

async function* read(call: WireCall, provider: string): AsyncGenerator<string, Ending> {
  const broken = (why: string, cause?: unknown) =>
    new GatewayError('upstream_error', `The provider "${provider}" ${why}; the answer is not whole. Try again.`, { cause })
  const ending = { finishReason: 'stop', inputTokens: 0, outputTokens: 0 }
  let length = 0
  let isWhole = false
  const take = ({ choices = [], usage, error }: Chunk): string => {
    if (error) throw broken('broke off')
    if (usage) Object.assign(ending, { inputTokens: usage.prompt_tokens ?? 0, outputTokens: usage.completion_tokens ?? 0 })
    const [choice] = choices
    if (choice?.finish_reason) ending.finishReason = choice.finish_reason
    return choice?.delta?.content ?? choice?.message?.content ?? ''
  }
  if (!call.headers.get('content-type')?.startsWith('text/event-stream')) {
    // A server that does not stream.
    const piece = take(parse(await new Response(call.body as BodyInit).text(), broken))
    call.done()
    if (piece) yield piece
    return ending
  }
  try {
    for await (const { data } of readSse(call.body as ReadableStream<Uint8Array>)) {
      if (data === '') continue
      if (data === '[DONE]') {
        isWhole = true
        continue
      }
      const piece = take(parse(data, broken))
      if (!piece) continue
      length += piece.length
      if (length > longestAnswer) return { ...ending, finishReason: 'length' }
      yield piece
    }
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw broken('broke off', error)
  }
  if (!isWhole) throw broken('ended before its answer did')
  call.done()
  return ending
}

function parse(text: string, broken: (why: string, cause?: unknown) => GatewayError): Chunk {
  try {
    return JSON.parse(text) as Chunk
  } catch (error) {
    throw broken('sent what is no JSON', error)
  }
}

/** What a status of 400 or more says. What the upstream wrote is not passed on: nobody knows what is in it. */
async function refused({ status, headers, body }: WireCall, provider: string): Promise<GatewayError> {
  if (body instanceof ReadableStream) await body.cancel().catch(() => undefined)
  const wait = Number(headers.get('retry-after'))
  if (status === 429) {
    const retryAfter = Number.isFinite(wait) && wait > 0 ? wait : 5
    return new GatewayError('rate_limit_exceeded', `The provider "${provider}" has too many requests: try again in ${retryAfter} s.`, { retryAfter })
  }
  if (status === 404) return new GatewayError('model_not_found', `The provider "${provider}" does not have this model: choose another.`, { param: 'model' })
  const next = status < 500 ? 'Is the message too long, or does the model not take images?' : 'Try again, or choose another model.'
  return new GatewayError('upstream_error', `The provider "${provider}" answered ${status}. ${next}`)
}
