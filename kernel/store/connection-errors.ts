/** Tells the loss of the database from the errors it answers. */

/** SQLSTATEs that say "not now" (connection exceptions, too many connections, stopping, starting, silent in a transaction), and the system's own codes. */
const codes =
  /^(08...|53300|57P0[1-5]|25P0[34]|ECONN\w+|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ENOTCONN|ERR_SOCKET_CLOSED|database_unavailable)$/
/** `pg` gives these no code. */
const messages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client (has encountered a connection error|was closed)|Cannot use a pool after|Socket closed)/

/** True when the error, or one of its causes, means that the database cannot be reached now: the same request may succeed later (503). */
export function isConnectionError(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (codes.test(String((at as { code?: unknown }).code)) || messages.test(at.message)) return true
    if (at instanceof AggregateError && at.errors.some(isConnectionError)) return true
  }
  return false
}
