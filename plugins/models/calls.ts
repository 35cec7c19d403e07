/** Calls of providers in wire form: a place among the concurrent ones, a deadline to the head, and what the answer says of the provider's health. */
import { type Clock, GatewayError, inTime, isGatewayError } from 'portico'
import type { ModelProvider, WireCall, WireCallRequest, WireKind, WireRequest } from './contract.ts'
import { type Health, refusal } from './health.ts'

const defaultConcurrent = 1_024
const defaultTimeoutMs = 600_000
const noHeaders = new Headers()

/** One provider with its state. */
export interface Upstream {
  readonly provider: ModelProvider
  readonly health: Health
  /** Calls under way. */
  active: number
}

/** Calls the provider that `find` finds. Errors are those of `Models.call`. */
export function callUpstream(find: (provider: string) => Upstream, kind: WireKind, request: WireCallRequest, clock: Clock): Promise<WireCall> {
  try {
    const upstream = find(request.provider)
    const ask = admit(upstream, kind)
    const call = new Call(upstream, request, clock.now())
    return inTime(call.ask(ask, request), call.silenceMs, () => call.late(), discard)
  } catch (error) {
    return Promise.reject(error)
  }
}

type Ask = (request: WireRequest) => Promise<Response>

/** What the provider is asked by. Throws when it cannot do that, cools down, or has enough to do. */
function admit({ provider, health, active }: Upstream, kind: WireKind): Ask {
  const { id, down, maxConcurrent = defaultConcurrent, [kind]: ask } = provider
  if (down) throw new GatewayError('unavailable', down, { retryAfter: 5 })
  if (!ask) {
    const what = kind === 'chat' ? 'chat models' : 'embeddings'
    throw new GatewayError('model_not_found', `The provider "${id}" has no ${what}. GET /v1/models lists what there is.`, { param: 'model' })
  }
  health.admit()
  if (active < maxConcurrent) return ask
  const message = `${maxConcurrent} calls to the provider "${id}" are under way, which is its limit. Try again in a second.`
  throw new GatewayError('rate_limit_exceeded', message, { retryAfter: 1 })
}

/** One call: the place it takes, until it is done. */
class Call implements WireCall {
  status = 0
  headers = noHeaders
  length: number | null = null
  body: WireCall['body'] = null
  readonly silenceMs: number
  readonly #upstream: Upstream
  readonly #began: number
  readonly #signal: AbortSignal
  readonly #abort: (reason: unknown) => void
  #isLate = false
  #isOver = false

  constructor(upstream: Upstream, request: WireCallRequest, began: number) {
    const { signal, abort } = request.abort ? { signal: request.signal, abort: request.abort } : ownSignal(request.signal)
    this.silenceMs = upstream.provider.timeoutMs ?? defaultTimeoutMs
    this.#upstream = upstream
    this.#began = began
    this.#signal = signal
    this.#abort = abort
    upstream.active++
  }

  /** Resolves when the head is there, and small bodies with it. */
  async ask(ask: Ask, { body, model, headers, principal, inOne = 0 }: WireCallRequest): Promise<this> {
    const signal = this.#signal
    try {
      signal.throwIfAborted()
      const response = await ask({ body, model, headers, principal, signal })
      judge(response.status, this.#upstream, this.#began)
      this.status = response.status
      this.headers = response.headers
      this.length = lengthOf(response.headers)
      this.body = this.length !== null && this.length <= inOne ? await readWhole(response, this.length) : response.body
      if (this.body === null || this.body instanceof ArrayBuffer) this.done()
      return this
    } catch (error) {
      this.done()
      if (this.#isLate) throw error
      const hasLeft = signal.aborted
      this.#abort(error)
      throw hasLeft ? error : translate(error, this.#upstream, this.#began)
    }
  }

  /** Its time is over: the reason. */
  late(): GatewayError {
    const { provider, health } = this.#upstream
    const error = new GatewayError('upstream_timeout', `The provider "${provider.id}" did not answer within ${this.silenceMs} ms.`)
    this.#isLate = true
    this.done()
    this.#abort(error)
    health.failed('timeout', this.#began)
    return error
  }

  done(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#upstream.active--
  }

  abort(): void {
    this.done()
    this.#abort(new GatewayError('unavailable', 'Nobody waits for the answer any more.'))
  }
}

function discard({ body }: WireCall): void {
  if (body instanceof ReadableStream) body.cancel().catch(() => undefined)
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

/** Reads a small body; one that is not whole is a stream that fails. */
async function readWhole(response: Response, length: number): Promise<WireCall['body']> {
  try {
    const body = await response.arrayBuffer()
    if (body.byteLength !== length) throw new Error(`the body has ${body.byteLength} of the announced ${length} bytes`)
    return body
  } catch (error) {
    return new ReadableStream({ start: (stream) => stream.error(error) })
  }
}

/** What fetch decompressed has another length than was announced. */
function lengthOf(headers: Headers): number | null {
  const length = headers.get('content-length')
  if (length === null || !/^\d{1,15}$/.test(length) || (headers.get('content-encoding') ?? 'identity') !== 'identity') return null
  return Number(length)
}

function translate(error: unknown, { provider, health }: Upstream, began: number): unknown {
  // The kernel's guard has reported what a plugin's provider threw; to the caller it is an upstream without an answer.
  if (isGatewayError(error) && error.code !== 'plugin_failed') {
    if (error.code === 'upstream_timeout') health.failed('timeout', began)
    return error
  }
  health.failed('unreachable', began)
  const message = `The provider "${provider.id}" could not be reached, or broke off before its answer. Try again; if it stays so, the operator has to look.`
  return new GatewayError('upstream_error', message, { cause: error })
}
