/** Tells the loss of the database from the errors it answers. */

/** SQLSTATE classes and codes that say "not now": connection exceptions, too many connections, shutting down, starting up, idle in transaction. */
const unavailable = /^(08...|53300|57P0[1-5]|25P0[34])$/
const systemCodes = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'ENOTCONN', 'ERR_SOCKET_CLOSED'])
/** `pg` gives these no code. */
const messages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client has encountered a connection error|Client was closed|Cannot use a pool after calling end|Socket closed|The database did not answer)/

/** True when the error, or one of its causes, means that the database cannot be reached now: the same request may succeed later (503). */
export function isConnectionError(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { code } = at as { code?: unknown }
    if (typeof code === 'string' && (code === 'database_unavailable' || systemCodes.has(code) || unavailable.test(code))) return true
    if (messages.test(at.message)) return true
    if (at instanceof AggregateError && at.errors.some((inner) => isConnectionError(inner))) return true
  }
  return false
}
