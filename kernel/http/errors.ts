/** The one place where errors become answers: the envelope, or the dialect of the route's group. Nothing of an unknown error leaves. */
import type { DialectError } from '../contract/access.ts'
import { type ErrorCode, type ErrorEnvelope, errorTable, GatewayError, isGatewayError } from '../contract/errors.ts'
import type { Context } from './context.ts'

/** Told of what nobody meant: the plugin at fault, what it did, the error. */
export type Report = (plugin: string, what: string, error: unknown) => void

/** What `errorResponse` needs besides the error. */
export interface ErrorMapping {
  /** True for errors that mean "the database cannot be reached": answered 503. */
  isUnavailable?(error: unknown): boolean
  readonly onError: Report
}

/** What the runtimes say when a client left while its body was read. */
const brokenBody = /^(?:The connection was closed\.|Cannot read body as underlying resource unavailable)/

/** The answer to the context's failure; faults are reported to the plugin at fault. */
export function errorResponse(context: Context, mapping: ErrorMapping): Response {
  const { request, requestId, failure, target } = context
  const plugin = target?.group.plugin ?? 'kernel'
  const error = toGatewayError(failure, context, mapping)
  const { code, message, param, details } = error
  const { status, type } = errorTable[code] ?? errorTable.internal_error
  if (status === 500) mapping.onError(plugin, `${request.method} ${target?.template ?? 'request'}`, failure)
  const headers: Record<string, string> = { 'content-type': 'application/json', 'cache-control': 'no-store', ...error.headers }
  const retryAfter = error.retryAfter ?? (status === 429 || status === 503 ? 1 : undefined)
  if (retryAfter !== undefined) headers['retry-after'] = String(Math.max(1, Math.ceil(retryAfter)))
  const told = { status, code, message, type, param, details, requestId }
  try {
    return new Response(JSON.stringify((target?.group.options.dialect ?? toEnvelope)(told)), { status, headers })
  } catch (cause) {
    mapping.onError(plugin, 'dialect', cause)
    return Response.json(toEnvelope({ ...told, details: undefined }), { status })
  }
}

function toEnvelope({ status: _, ...error }: DialectError): ErrorEnvelope {
  return { error }
}

/** Anything that was thrown, as what may be told of it. */
function toGatewayError(thrown: unknown, { request, url, queryAt }: Context, { isUnavailable }: ErrorMapping): GatewayError {
  const { code, cause } = Object(thrown)
  // Elysia wraps what a parser throws, drizzle what the store says.
  const error = isGatewayError(cause) && (code === 'PARSE' || isUnavailable?.(thrown)) ? cause : thrown
  if (isGatewayError(error)) return error
  const known = fromElysia(error, queryAt === -1 ? '' : url.slice(queryAt))
  if (known) return known
  if (request.bodyUsed && error instanceof Error && brokenBody.test(error.message)) return new GatewayError('invalid_request', 'The body did not arrive whole.')
  if (isUnavailable?.(error)) return new GatewayError('database_unavailable', 'The database does not answer; try again shortly.', { retryAfter: 2 })
  return new GatewayError('internal_error', 'The gateway failed on this request; its log has the reason under the request id.')
}

const statusCodes: Readonly<Record<number, ErrorCode>> = {
  ...{ 400: 'invalid_request', 401: 'missing_credentials', 403: 'forbidden', 404: 'not_found', 405: 'method_not_allowed', 409: 'conflict', 410: 'gone' },
  ...{ 413: 'body_too_large', 415: 'unsupported_media_type', 422: 'unprocessable', 429: 'rate_limit_exceeded', 501: 'not_implemented', 503: 'unavailable' },
}

/** What Elysia throws: its own errors, and `status(…)`. */
function fromElysia(error: unknown, query: string): GatewayError | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  const { code, type, response } = error as { code?: unknown; type?: unknown; response?: unknown }
  if (code === 'VALIDATION' && type !== 'response') return fromValidation(error as ElysiaValidation, query)
  if (code === 'PARSE') return new GatewayError('invalid_json', 'The body could not be read as this route takes it.')
  if (code === 'NOT_FOUND') return new GatewayError('not_found', 'There is nothing at this address.')
  if (code === 'INVALID_COOKIE_SIGNATURE') return new GatewayError('invalid_request', 'A cookie is not signed as it should be.')
  const mapped = typeof code === 'number' && 'response' in error ? statusCodes[code] : undefined
  return mapped && new GatewayError(mapped, typeof response === 'string' ? response : errorTable[mapped].summary)
}

interface ElysiaValidation {
  readonly type?: string
  readonly value?: unknown
  readonly all?: readonly { path?: string; message?: string; summary?: string }[]
}

function fromValidation({ type = 'request', value, all = [] }: ElysiaValidation, query: string): GatewayError {
  // Of a number out of its range in a query Elysia tells the value only.
  const lost = type === 'property' ? [...new URLSearchParams(query)].filter(([, written]) => written === String(value)) : []
  const where = lost.length === 1 ? 'query' : ({ params: 'path', property: 'request' }[type] ?? type)
  const details = all.slice(0, 20).map(({ path = '', message, summary }) => ({
    param: lost.length === 1 ? lost[0]?.[0] : path.replace(/^\//, '').replaceAll('/', '.'),
    message: message ?? summary ?? 'Wrong value',
  }))
  const { param, message = 'wrong shape' } = details[0] ?? {}
  return new GatewayError('validation_failed', `${param ? `${where}: ${param}` : `the ${where}`}: ${message}.`, { param: param || undefined, details })
}
