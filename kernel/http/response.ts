/** What the kernel adds to every answer: the request id, the limits, CORS. */
import type { Context } from './context.ts'

/** Sets the headers, on the answer itself if it may be changed, else on a copy. */
export function finishHeaders(context: Context, response: Response, variesByOrigin: boolean): Response {
  // One that has passed here before is shared between requests: another request's headers must not show.
  const answer = response.headers.has('x-request-id') ? copy(response) : response
  try {
    setHeaders(context, answer.headers, variesByOrigin)
    return answer
  } catch {
    const changed = copy(answer)
    setHeaders(context, changed.headers, variesByOrigin)
    return changed
  }
}

function copy(response: Response): Response {
  const { status, statusText } = response
  const headers = new Headers(response.headers)
  for (const name of ['access-control-allow-origin', 'access-control-expose-headers', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'])
    headers.delete(name)
  return new Response(response.body, { status, statusText, headers })
}

function setHeaders({ requestId, limit, corsOrigin }: Context, headers: Headers, variesByOrigin: boolean): void {
  headers.set('x-request-id', requestId)
  if (limit) {
    headers.set('ratelimit-limit', String(limit.limit))
    headers.set('ratelimit-remaining', String(limit.remaining))
    headers.set('ratelimit-reset', String(limit.resetSeconds))
  }
  if (variesByOrigin && !headers.get('vary')?.toLowerCase().includes('origin')) headers.append('vary', 'Origin')
  if (corsOrigin === undefined) return
  headers.set('access-control-allow-origin', corsOrigin)
  headers.set('access-control-expose-headers', 'x-request-id, retry-after, ratelimit-limit, ratelimit-remaining, ratelimit-reset, www-authenticate')
}
