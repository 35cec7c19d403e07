/** Forwards a request in OpenAI's wire form to the provider of its model. The request differs only in the value of `model`, the answer in nothing. */
import { contextOf, type Logger, type RequestContext } from 'portico'
import type { Models, WireCall } from 'portico/plugins/models'
import { findModel, replaceModel } from './model-span.ts'
import { relayBody } from './relay.ts'
import { blindWatcher, createJsonWatcher, createLengthWatcher, createStreamWatcher, type Watcher } from './watchers.ts'

/** What the forwarder works with. */
export interface ForwardOptions {
  readonly models: Models
  readonly log: Logger
}

// `accept` says which form is wanted, the others are OpenAI's own for the call itself. Never a credential: the upstream has the gateway's.
const requestHeaders = ['accept', 'idempotency-key', 'openai-beta'] as const
const responseHeaders = new Set(['content-type', 'cache-control', 'retry-after', 'retry-after-ms', 'x-should-retry', 'x-accel-buffering'])
const isPassedOn = (name: string) => responseHeaders.has(name) || name.startsWith('openai-') || name.startsWith('x-ratelimit-')

/** Bytes: answers up to this size are passed on in one piece, which costs half of a stream. */
const small = 1024 * 1024

/** Answers one request. Errors are thrown until the head is there. */
export async function forward(kind: 'chat' | 'embeddings', request: Request, { models, log }: ForwardOptions): Promise<Response> {
  const context = contextOf(request)
  const body = new Uint8Array(await request.arrayBuffer())
  const span = findModel(body)
  const found = models.resolve(span.model)
  const { provider, model } = found instanceof Promise ? await found : found
  context.idleTimeout(0)
  const call = await models.call(kind, {
    provider,
    model,
    body: model === span.model ? body : replaceModel(body, span, model),
    principal: context.principal,
    signal: context.signal,
    abort: (reason) => context.abort(reason),
    headers: pick(request.headers),
    inOne: small,
  })
  return answer(call, provider, context, log)
}

function answer(call: WireCall, provider: string, context: RequestContext, log: Logger): Response {
  const { status, length, body } = call
  const headers = passedOn(call.headers)
  if (body === null || body instanceof ArrayBuffer) return new Response(body, { status, headers })
  if (length !== null) headers['content-length'] = String(length)
  const isStream = headers['content-type']?.startsWith('text/event-stream') === true
  const relayed = relayBody(call, body, {
    watcher: watcherFor(status, headers['content-type'] ?? '', length, isStream),
    isStream,
    context,
    onBroken: (why) => log.warn(`An answer of the provider "${provider}" broke off: ${why}`, { requestId: context.requestId }),
  })
  return new Response(relayed as BodyInit, { status, headers })
}

function watcherFor(status: number, type: string, length: number | null, isStream: boolean): Watcher {
  if (isStream && status < 300) return createStreamWatcher()
  if (length !== null) return createLengthWatcher(length)
  return /[/+]json\b/.test(type) ? createJsonWatcher() : blindWatcher
}

function pick(headers: Headers): Record<string, string> {
  const picked: Record<string, string> = {}
  for (const name of requestHeaders) {
    const value = headers.get(name)
    if (value !== null) picked[name] = value
  }
  return picked
}

function passedOn(headers: Headers): Record<string, string> {
  const passed: Record<string, string> = {}
  // Bun makes the object two and a half times as fast as it iterates.
  const all = (headers as { toJSON?(): Record<string, string> }).toJSON?.() ?? Object.fromEntries(headers)
  for (const [name, value] of Object.entries(all)) if (isPassedOn(name)) passed[name] = value
  return passed
}
