/** Tells the loss of the database from the errors it answers. */
import { GatewayError } from 'portico'

/** SQLSTATEs that say "not now" (connection exceptions, disk full, too many connections, stopping, starting, silent in a transaction), and the system's own codes. */
const codes =
  /^(08...|53[13]00|57P0[1-5]|25P0[34]|ECONN\w+|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ENOTCONN|ERR_SOCKET_CLOSED|database_unavailable)$/
/** `pg` gives these no code. */
const messages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client (has encountered a connection error|was closed)|Cannot use a pool after|Socket closed)/

/** True when the error, or one of its causes, means that the database cannot be reached, or store anything, now: the same request may succeed later (503). */
export function isConnectionError(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (codes.test(String((at as { code?: unknown }).code)) || messages.test(at.message)) return true
    if (at instanceof AggregateError && at.errors.some(isConnectionError)) return true
  }
  return false
}

const full = 'The disk of the database is full: nothing was stored. Make space, and it goes on.'

/** What a full disk means to those who wanted to store something; undefined for every other error of `pg` or drizzle. */
export function diskFull(cause: unknown): GatewayError | undefined {
  const { code, cause: inner } = Object(cause)
  return (code ?? inner?.code) === '53100' ? new GatewayError('database_unavailable', full, { cause, retryAfter: 10 }) : undefined
}
