/** Calls of providers in wire form: a place among the concurrent ones, a deadline to the head, and what the answer says of the provider's health. */
import { type Clock, Deadlines, GatewayError, isGatewayError } from 'portico'
import type { ModelProvider, WireCall, WireCallRequest, WireKind, WireRequest } from './contract.ts'
import { type Health, refusal } from './health.ts'

const defaultConcurrent = 1_024
const defaultTimeoutMs = 600_000
const waits = new Deadlines()

/** One provider with its state. */
export interface Upstream {
  readonly provider: ModelProvider
  readonly health: Health
  /** Calls under way. */
  active: number
}

/** Calls it. Errors are those of `Models.call`. */
export async function callUpstream(upstream: Upstream, kind: WireKind, request: WireCallRequest, clock: Clock): Promise<WireCall> {
  const { provider, health } = upstream
  const { maxConcurrent = defaultConcurrent, timeoutMs = defaultTimeoutMs } = provider
  const ask = provider[kind]
  if (!ask) {
    throw new GatewayError(
      'model_not_found',
      `The provider "${provider.id}" has no ${kind === 'chat' ? 'chat models' : 'embeddings'}. GET /v1/models lists what there is.`,
      {
        param: 'model',
      },
    )
  }
  health.admit()
  if (upstream.active >= maxConcurrent) {
    throw new GatewayError(
      'rate_limit_exceeded',
      `${maxConcurrent} calls to the provider "${provider.id}" are under way, which is its limit. Try again in a second.`,
      {
        retryAfter: 1,
      },
    )
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
  try {
    const { response, length, body } = await new Promise<Head>((resolve, reject) => {
      const wait = waits.start(timeoutMs, () => {
        isLate = true
        const late = new GatewayError('upstream_timeout', `The provider "${provider.id}" did not answer within ${timeoutMs} ms.`)
        abort(late)
        reject(late)
      })
      askForHead(ask, { ...request, signal }, upstream, began).then(
        (head) => {
          waits.end(wait)
          if (isLate) head.response.body?.cancel().catch(() => undefined)
          resolve(head)
        },
        (error: unknown) => {
          waits.end(wait)
          reject(error)
        },
      )
    })
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

async function askForHead(ask: (request: WireRequest) => Promise<Response>, request: WireCallRequest, upstream: Upstream, began: number): Promise<Head> {
  const { body, model, headers, signal, inOne = 0 } = request
  signal.throwIfAborted()
  const response = await ask({ body, model, headers, signal })
  judge(response.status, upstream, began)
  return readHead(response, inOne)
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

async function readHead(response: Response, inOne: number): Promise<Head> {
  const length = lengthOf(response.headers)
  if (length === null || length > inOne) return { response, length, body: response.body }
  try {
    const body = await response.arrayBuffer()
    if (body.byteLength !== length) throw new Error(`the body has ${body.byteLength} of the announced ${length} bytes`)
    return { response, length, body }
  } catch (error) {
    return { response, length, body: new ReadableStream({ start: (stream) => stream.error(error) }) }
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
