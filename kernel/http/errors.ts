/** The one place where errors become answers: the envelope, or the dialect of the route's group. Nothing of an unknown error leaves. */

import type { DialectError } from '../contract/access.ts'
import { type ErrorCode, type ErrorEnvelope, errorTable, isGatewayError } from '../contract/errors.ts'
import type { Context } from './context.ts'

/** An error as it is answered. `isFault` = nobody meant it: it is reported. */
export interface Failure extends DialectError {
  readonly retryAfter?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly isFault: boolean
}

/** What `errorResponse` needs besides the error. */
export interface ErrorMapping {
  /** True when the database cannot be reached: 503 instead of 500. */
  isUnavailable(error: unknown): boolean
  report(plugin: string, what: string, error: unknown): void
}

/** What the runtimes say when a client left while its body was read. */
const brokenBody = /^(?:The connection was closed\.|Cannot read body as underlying resource unavailable)/

/** Maps anything that was thrown. */
export function toFailure(thrown: unknown, { request, requestId, url, queryAt }: Context, isUnavailable: (error: unknown) => boolean): Failure {
  // Elysia wraps what a parser throws.
  const error = (thrown as { code?: unknown } | null)?.code === 'PARSE' && isGatewayError((thrown as Error).cause) ? (thrown as Error).cause : thrown
  if (isGatewayError(error)) {
    const kind = errorTable[error.code] ?? errorTable.internal_error
    const { code, message, param, details, headers } = error
    const retryAfter = error.retryAfter ?? (kind.status === 429 || kind.status === 503 ? 1 : undefined)
    return { status: kind.status, type: kind.type, code, message, param, details, retryAfter, headers, requestId, isFault: kind.status === 500 }
  }
  const known = fromElysia(error, queryAt === -1 ? '' : url.slice(queryAt))
  if (known) return { ...known, ...of(known.code), requestId, isFault: false }
  if (request.bodyUsed && error instanceof Error && brokenBody.test(error.message)) {
    return { ...of('invalid_request'), message: 'The body did not arrive whole.', requestId, isFault: false }
  }
  if (isUnavailable(error)) {
    return { ...of('database_unavailable'), message: 'The database does not answer; try again shortly.', retryAfter: 2, requestId, isFault: false }
  }
  return { ...of('internal_error'), message: 'The gateway failed on this request; its log has the reason under the request id.', requestId, isFault: true }
}

/** The answer to an error; faults are reported to the plugin at fault. */
export function errorResponse(context: Context, error: unknown, mapping: ErrorMapping): Response {
  const failure = toFailure(error, context, mapping.isUnavailable)
  const group = context.target?.group
  if (failure.isFault) mapping.report(group?.plugin ?? 'kernel', `${context.request.method} ${context.target?.template ?? 'request'}`, error)
  const headers: Record<string, string> = { 'content-type': 'application/json', 'cache-control': 'no-store', ...failure.headers }
  if (failure.retryAfter !== undefined) headers['retry-after'] = String(Math.max(1, Math.ceil(failure.retryAfter)))
  try {
    const body = group?.options.dialect ? group.options.dialect(failure) : toEnvelope(failure)
    return new Response(JSON.stringify(body), { status: failure.status, headers })
  } catch (cause) {
    mapping.report(group?.plugin ?? 'kernel', 'dialect', cause)
    return Response.json(toEnvelope({ ...failure, details: undefined }), { status: failure.status })
  }
}

function toEnvelope({ code, message, type, param, details, requestId }: Failure): ErrorEnvelope {
  return { error: { code, message, type, param, details, requestId } }
}

const of = (code: ErrorCode) => ({ code, status: errorTable[code].status, type: errorTable[code].type })

interface Known {
  readonly code: ErrorCode
  readonly message: string
  readonly param?: string
  readonly details?: unknown
}

const statusCodes: Readonly<Record<number, ErrorCode>> = {
  ...{ 400: 'invalid_request', 401: 'missing_credentials', 403: 'forbidden', 404: 'not_found', 405: 'method_not_allowed', 409: 'conflict', 410: 'gone' },
  ...{ 413: 'body_too_large', 415: 'unsupported_media_type', 422: 'unprocessable', 429: 'rate_limit_exceeded', 501: 'not_implemented', 503: 'unavailable' },
}

/** What Elysia throws: its own errors, and `status(…)`. */
function fromElysia(error: unknown, query: string): Known | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  const { code, type, response } = error as { code?: unknown; type?: unknown; response?: unknown }
  if (code === 'VALIDATION' && type !== 'response') return fromValidation(error as ElysiaValidation, query)
  if (code === 'PARSE') return { code: 'invalid_json', message: 'The body could not be read as this route takes it.' }
  if (code === 'NOT_FOUND') return { code: 'not_found', message: 'There is nothing at this address.' }
  if (code === 'INVALID_COOKIE_SIGNATURE') return { code: 'invalid_request', message: 'A cookie is not signed as it should be.' }
  const mapped = typeof code === 'number' ? statusCodes[code] : undefined
  if (mapped === undefined || !('response' in error)) return undefined
  return { code: mapped, message: typeof response === 'string' ? response : errorTable[mapped].summary }
}

interface ElysiaValidation {
  readonly type?: string
  readonly value?: unknown
  readonly all?: readonly { path?: string; message?: string; summary?: string }[]
}

function fromValidation(error: ElysiaValidation, query: string): Known {
  // Of a number out of its range in a query Elysia tells the value only.
  const lost = error.type === 'property' ? [...new URLSearchParams(query)].filter(([, value]) => value === String(error.value)) : []
  if (lost.length === 1) return fromValidation({ type: 'query', all: (error.all ?? []).map((problem) => ({ ...problem, path: `/${lost[0]?.[0]}` })) }, '')
  const where = error.type === 'params' ? 'path' : error.type === 'property' ? 'request' : (error.type ?? 'request')
  const problems = (error.all ?? []).slice(0, 20).map(({ path = '', message, summary }) => ({
    param: path.replace(/^\//, '').replaceAll('/', '.'),
    message: message ?? summary ?? 'Wrong value',
  }))
  const first = problems[0]
  const at = first?.param ? `${where}: ${first.param}` : `the ${where}`
  return { code: 'validation_failed', message: `${at}: ${first?.message ?? 'wrong shape'}.`, param: first?.param || undefined, details: problems }
}
