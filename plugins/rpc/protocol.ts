/** JSON-RPC 2.0 (https://www.jsonrpc.org/specification): what a message says, and what is answered. Knows no socket. */
import { type ErrorCode, isGatewayError } from 'portico'

/** A request id, §4. */
export type Id = string | number | null

/** A request, §4; without an id it is a notification. */
export interface Call {
  readonly method: string
  readonly params: readonly unknown[] | Readonly<Record<string, unknown>> | undefined
  readonly id: Id | undefined
}

/** An error object, §5.1. */
export interface RpcError {
  readonly code: number
  readonly message: string
  readonly data?: unknown
}

/** A response, §5. */
export type Answer = { readonly jsonrpc: '2.0'; readonly id: Id } & ({ readonly result: unknown } | { readonly error: RpcError })

/** The specification's codes, and those of this server (-32000 to -32099), which README.md lists. */
export const codes = {
  parse: { code: -32700, message: 'Parse error' },
  request: { code: -32600, message: 'Invalid Request' },
  method: { code: -32601, message: 'Method not found' },
  params: { code: -32602, message: 'Invalid params' },
  internal: { code: -32603, message: 'Internal error' },
  server: { code: -32000, message: 'Server error' },
  forbidden: { code: -32001, message: 'Forbidden' },
  missing: { code: -32004, message: 'Not found' },
  conflict: { code: -32009, message: 'Conflict' },
  late: { code: -32008, message: 'Deadline exceeded' },
  rate: { code: -32029, message: 'Too many requests' },
} as const

/** An answer that is an error. `why` is a whole sentence for the reader. */
export function failure(id: Id, { code, message }: (typeof codes)[keyof typeof codes], why?: string, more: object = {}): Answer {
  return { jsonrpc: '2.0', error: { code, message, ...(why === undefined ? {} : { data: { why, ...more } }) }, id }
}

/** What a message says: calls and answers in the order of its members; `isBatch` = the answers go out as an array. */
export interface Parsed {
  readonly isBatch: boolean
  readonly members: readonly (Call | Answer)[]
}

/** Reads a message. What is wrong stands among the members as the answer to it (§5.1, §6). */
export function parseMessage(text: string, maxBatchSize: number): Parsed {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { isBatch: false, members: [failure(null, codes.parse, 'The message is no JSON.')] }
  }
  if (!Array.isArray(value)) return { isBatch: false, members: [toMember(value)] }
  if (value.length === 0) return { isBatch: false, members: [failure(null, codes.request, 'The batch is empty.')] }
  if (value.length > maxBatchSize)
    return { isBatch: false, members: [failure(null, codes.request, `The batch has ${value.length} members; at most ${maxBatchSize} are taken.`)] }
  return { isBatch: true, members: value.map(toMember) }
}

/** True for a member that is answered already. */
export function isAnswer(member: Call | Answer): member is Answer {
  return 'jsonrpc' in member
}

function toMember(value: unknown): Call | Answer {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return failure(null, codes.request, 'A request is an object.')
  const { jsonrpc, method, params, id } = value as Record<string, unknown>
  const wrong = (why: string) => failure(null, codes.request, why)
  if (jsonrpc !== '2.0') return wrong('jsonrpc must be "2.0".')
  if (typeof method !== 'string') return wrong('method must be a string.')
  if (id !== undefined && id !== null && typeof id !== 'string' && typeof id !== 'number') return wrong('id must be a string, a number or null.')
  if (params !== undefined && (typeof params !== 'object' || params === null)) return wrong('params must be an object or an array.')
  return { method, params: params as Call['params'], id: id as Id | undefined }
}

const codeOf: Partial<Record<ErrorCode, (typeof codes)[keyof typeof codes]>> = {
  validation_failed: codes.params,
  missing_credentials: codes.forbidden,
  invalid_api_key: codes.forbidden,
  insufficient_scope: codes.forbidden,
  forbidden: codes.forbidden,
  not_found: codes.missing,
  model_not_found: codes.missing,
  gone: codes.missing,
  conflict: codes.conflict,
  deadline_exceeded: codes.late,
  rate_limit_exceeded: codes.rate,
  internal_error: codes.internal,
  plugin_failed: codes.internal,
}

/** The error of a method as an answer. What no `GatewayError` says stays in the log. */
export function failureOf(id: Id, error: unknown): Answer {
  if (!isGatewayError(error)) return failure(id, codes.internal)
  const { code, message, details, param, retryAfter } = error
  const as = codeOf[code] ?? codes.server
  return as === codes.internal ? failure(id, as) : failure(id, as, message, { code, param, details, retryAfter })
}
