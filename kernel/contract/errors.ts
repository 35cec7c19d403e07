/** The one table of error codes, and the one error class that carries a code. Mapping to HTTP lives in kernel/http. */
import type { DialectError } from './access.ts'

/** What a code means: its HTTP status, OpenAI's error type, and the sentence the docs page shows. */
const kind = (status: number, type: string, summary: string) => ({ status, type, summary })

/** Every code the gateway answers with. `docs/errors.md` is made from this table. */
export const errorTable = {
  validation_failed: kind(400, 'invalid_request_error', 'A field is missing, unknown or of the wrong shape'),
  invalid_json: kind(400, 'invalid_request_error', 'The body is not JSON'),
  invalid_request: kind(400, 'invalid_request_error', 'The request contradicts itself or the protocol'),
  missing_credentials: kind(401, 'authentication_error', 'No credential was sent'),
  invalid_api_key: kind(401, 'authentication_error', 'The credential is unknown, expired or revoked'),
  insufficient_scope: kind(403, 'permission_error', 'The credential is good but lacks the scope'),
  host_not_allowed: kind(403, 'permission_error', 'The Host header names no host of this gateway'),
  origin_not_allowed: kind(403, 'permission_error', 'The Origin is not one this gateway answers'),
  address_not_allowed: kind(403, 'permission_error', 'The address is not one this gateway fetches'),
  forbidden: kind(403, 'permission_error', 'Not allowed here'),
  not_found: kind(404, 'not_found_error', 'Nothing at this address'),
  model_not_found: kind(404, 'not_found_error', 'No provider has this model'),
  method_not_allowed: kind(405, 'invalid_request_error', 'The address exists, but not with this method'),
  conflict: kind(409, 'invalid_request_error', 'The state of the object forbids it'),
  gone: kind(410, 'not_found_error', 'It was here and has expired'),
  body_too_large: kind(413, 'invalid_request_error', 'The body is over the limit of this route'),
  unsupported_media_type: kind(415, 'invalid_request_error', 'This route does not take that content type'),
  unprocessable: kind(422, 'invalid_request_error', 'Well-formed, but not meaningful here'),
  rate_limit_exceeded: kind(429, 'rate_limit_error', 'Too many requests; Retry-After says when to come back'),
  internal_error: kind(500, 'server_error', 'A fault of the gateway; the log has it under the request id'),
  config_invalid: kind(500, 'server_error', 'The configuration is not valid'),
  plan_invalid: kind(500, 'server_error', 'The plugins do not fit together'),
  plugin_failed: kind(500, 'server_error', 'A plugin broke its contract'),
  not_implemented: kind(501, 'server_error', 'This provider cannot do that'),
  upstream_error: kind(502, 'upstream_error', 'The upstream answered nonsense or broke off'),
  unavailable: kind(503, 'server_error', 'Not ready, or going away'),
  plugin_unavailable: kind(503, 'server_error', 'The plugin that owns this address is not running'),
  database_unavailable: kind(503, 'server_error', 'The database does not answer'),
  deadline_exceeded: kind(504, 'server_error', 'The answer did not begin in time'),
  upstream_timeout: kind(504, 'upstream_error', 'The upstream did not answer in time'),
} as const

/** A code of `errorTable`. */
export type ErrorCode = keyof typeof errorTable

/** What an operator is warned of: an address that keeps guessing credentials, a Host or an Origin that does not belong here. */
export type SecurityKind = 'auth_failures' | 'foreign_host' | 'foreign_origin'

/** What a `GatewayError` may carry besides its code and message. */
export interface GatewayErrorOptions {
  cause?: unknown
  /** The offending field, as OpenAI's `param`. */
  param?: string
  /** More for machines: JSON. */
  details?: unknown
  /** Seconds, for `Retry-After`. */
  retryAfter?: number
  /** The plugin at fault, named in logs; the message reads "[plugin x] …". */
  plugin?: string
  /** Extra response headers. */
  headers?: Record<string, string>
  /** Worth a warning, which the plugin `audit` gives at most once in ten seconds for each kind and address. */
  security?: SecurityKind
}

const brand = Symbol.for('portico.error')

/** An error with a code. Its message is a whole sentence for the reader: what, why, next step. It reaches the client as it stands, so it names no path, SQL or secret. */
export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly param?: string
  readonly details?: unknown
  readonly retryAfter?: number
  readonly plugin?: string
  readonly headers?: Record<string, string>
  readonly security?: SecurityKind
  readonly [brand] = true

  constructor(code: ErrorCode, message: string, { cause, ...options }: GatewayErrorOptions = {}) {
    super(options.plugin ? `[plugin ${options.plugin}] ${message}` : message, { cause })
    this.name = 'GatewayError'
    this.code = code
    Object.assign(this, options)
  }
}

/** True for a `GatewayError` of this or another copy of the package. */
export function isGatewayError(error: unknown): error is GatewayError {
  return error instanceof Error && (error as { [brand]?: true })[brand] === true
}

/** The envelope of design §4, the same shape for MetaForge, AgentZero and OpenAI clients. */
export interface ErrorEnvelope {
  error: Omit<DialectError, 'status'>
}
