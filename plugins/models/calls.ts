/** Calls of providers in wire form: a place among the concurrent ones, a deadline to the head, and what the answer says of the provider's health. */
import { type Clock, GatewayError, isGatewayError } from 'portico'
import type { ModelProvider, WireCall, WireCallRequest, WireKind } from './contract.ts'
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
  const controller = new AbortController()
  const began = clock.now()
  try {
    const { response, length, body } = await underWatch(controller, { id: provider.id, signal: request.signal, timeoutMs }, async (signal) => {
      const response = await ask({ body: request.body, model: request.model, headers: request.headers, signal })
      judge(response.status, upstream, began)
      return readHead(response, request.inOne ?? 0)
    })
    if (body === null || body instanceof ArrayBuffer) done()
    return {
      ...{ status: response.status, headers: response.headers, length, body, silenceMs: timeoutMs, done },
      abort() {
        done()
        controller.abort()
      },
    }
  } catch (error) {
    done()
    controller.abort()
    throw translate(error, upstream, { began, hasLeft: request.signal.aborted })
  }
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

async function readHead(response: Response, inOne: number): Promise<Pick<WireCall, 'length' | 'body'> & { response: Response }> {
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

interface WatchOptions {
  readonly id: string
  readonly signal: AbortSignal
  readonly timeoutMs: number
}

/** The work under the caller's signal and a deadline; the work need not heed either. */
async function underWatch<T extends { response: Response }>(
  controller: AbortController,
  { id, signal, timeoutMs }: WatchOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  let leave = () => {}
  try {
    return await new Promise<T>((resolve, reject) => {
      let isWaiting = true
      const stop = (reason: unknown) => {
        isWaiting = false
        controller.abort(reason)
        reject(reason)
      }
      leave = () => stop(signal.reason)
      if (signal.aborted) return leave()
      signal.addEventListener('abort', leave, { once: true })
      timer = setTimeout(() => stop(new GatewayError('upstream_timeout', `The provider "${id}" did not answer within ${timeoutMs} ms.`)), timeoutMs)
      work(controller.signal).then((answer) => {
        if (isWaiting) resolve(answer)
        else answer.response.body?.cancel().catch(() => undefined)
      }, reject)
    })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', leave)
  }
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
