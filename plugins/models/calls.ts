/** Calls of providers in wire form: a place among the concurrent ones, a deadline to the head, and what the answer says of the provider's health. */
import { type Clock, GatewayError, inTime, isGatewayError } from 'portico'
import type { ModelProvider, WireCall, WireCallRequest, WireKind, WireRequest } from './contract.ts'
import { type Health, refusal } from './health.ts'

const defaultConcurrent = 1_024
const defaultTimeoutMs = 600_000

/** One provider with its state. */
export interface Upstream {
  readonly provider: ModelProvider
  readonly health: Health
  /** Calls under way. */
  active: number
}

/** Calls the provider that `find` finds. Errors are those of `Models.call`. */
export async function callUpstream(find: (provider: string) => Upstream, kind: WireKind, request: WireCallRequest, clock: Clock): Promise<WireCall> {
  const upstream = find(request.provider)
  const { provider, health } = upstream
  const { maxConcurrent = defaultConcurrent, timeoutMs = defaultTimeoutMs } = provider
  const ask = provider[kind]
  if (!ask) {
    const what = kind === 'chat' ? 'chat models' : 'embeddings'
    throw new GatewayError('model_not_found', `The provider "${provider.id}" has no ${what}. GET /v1/models lists what there is.`, { param: 'model' })
  }
  health.admit()
  if (upstream.active >= maxConcurrent) {
    const message = `${maxConcurrent} calls to the provider "${provider.id}" are under way, which is its limit. Try again in a second.`
    throw new GatewayError('rate_limit_exceeded', message, { retryAfter: 1 })
  }
  upstream.active++
  let isOver = false
  const done = () => {
    if (isOver) return
    isOver = true
    upstream.active--
  }
  const { signal, abort } = request.abort ? { signal: request.signal, abort: request.abort } : ownSignal(request.signal)
  const began = clock.now()
  let isLate = false
  const late = () => {
    isLate = true
    const error = new GatewayError('upstream_timeout', `The provider "${provider.id}" did not answer within ${timeoutMs} ms.`)
    abort(error)
    return error
  }
  try {
    const { response, length, body } = await inTime(askForHead(ask, request, signal, { upstream, began }), timeoutMs, late, discard)
    if (body === null || body instanceof ArrayBuffer) done()
    return {
      ...{ status: response.status, headers: response.headers, length, body, silenceMs: timeoutMs, done },
      abort() {
        done()
        abort(new GatewayError('unavailable', 'Nobody waits for the answer any more.'))
      },
    }
  } catch (error) {
    done()
    const hasLeft = signal.aborted && !isLate
    abort(error)
    throw translate(error, upstream, { began, hasLeft })
  }
}

interface Head {
  readonly response: Response
  readonly length: number | null
  readonly body: WireCall['body']
}

interface Asked {
  readonly upstream: Upstream
  readonly began: number
}

async function askForHead(
  ask: (request: WireRequest) => Promise<Response>,
  { body, model, headers, inOne = 0 }: WireCallRequest,
  signal: AbortSignal,
  { upstream, began }: Asked,
): Promise<Head> {
  signal.throwIfAborted()
  const response = await ask({ body, model, headers, signal })
  judge(response.status, upstream, began)
  const length = lengthOf(response.headers)
  if (length === null || length > inOne) return { response, length, body: response.body }
  try {
    const whole = await response.arrayBuffer()
    if (whole.byteLength !== length) throw new Error(`the body has ${whole.byteLength} of the announced ${length} bytes`)
    return { response, length, body: whole }
  } catch (error) {
    return { response, length, body: new ReadableStream({ start: (stream) => stream.error(error) }) }
  }
}

function discard({ response }: Head): void {
  response.body?.cancel().catch(() => undefined)
}

/** A signal that follows the given one, and can be aborted. */
function ownSignal(outer: AbortSignal): { signal: AbortSignal; abort(reason: unknown): void } {
  const controller = new AbortController()
  return { signal: AbortSignal.any([outer, controller.signal]), abort: (reason) => controller.abort(reason) }
}

/** What the answer says of the provider; throws when it is not for the client. */
function judge(status: number, { provider, health }: Upstream, began: number): void {
  if (status === 401) {
    health.refused(status, began)
    throw refusal(provider.id)
  }
  if (status >= 502 && status <= 504) health.failed(`status ${status}`, began)
  else health.answered()
  if (status >= 300 && status < 400) {
    throw new GatewayError('upstream_error', `The provider "${provider.id}" answered with a redirect (${status}), which is not followed. Correct its baseUrl.`)
  }
}

/** What fetch decompressed has another length than was announced. */
function lengthOf(headers: Headers): number | null {
  const length = headers.get('content-length')
  if (length === null || !/^\d{1,15}$/.test(length) || (headers.get('content-encoding') ?? 'identity') !== 'identity') return null
  return Number(length)
}

function translate(error: unknown, { provider, health }: Upstream, { began, hasLeft }: { began: number; hasLeft: boolean }): unknown {
  if (hasLeft) return error
  // The kernel's guard has reported what a plugin's provider threw; to the caller it is an upstream without an answer.
  if (isGatewayError(error) && error.code !== 'plugin_failed') {
    if (error.code === 'upstream_timeout') health.failed('timeout', began)
    return error
  }
  health.failed('unreachable', began)
  return new GatewayError(
    'upstream_error',
    `The provider "${provider.id}" could not be reached, or broke off before its answer. Try again; if it stays so, the operator has to look.`,
    {
      cause: error,
    },
  )
}
