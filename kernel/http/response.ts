/** What the kernel adds to every answer: the request id, what the door and the limits say. */
import type { Context } from './context.ts'

const ofOneRequest = ['access-control-allow-origin', 'access-control-expose-headers', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset']

/** Sets the headers, on the answer itself if it may be changed, else on a copy. */
export function finishHeaders(context: Context, response: Response): Response {
  // What a runtime answers to an upgrade is its own, and nothing on Bun.
  if (response === undefined || response.status === 101) return response
  // One that has passed here before is shared between requests: another request's headers must not show.
  const answer = response.headers.has('x-request-id') ? copy(response) : response
  try {
    setHeaders(context, answer.headers)
    return answer
  } catch {
    const changed = copy(answer)
    setHeaders(context, changed.headers)
    return changed
  }
}

function copy(response: Response): Response {
  const { status, statusText } = response
  const headers = new Headers(response.headers)
  for (const name of ofOneRequest) headers.delete(name)
  return new Response(response.body, { status, statusText, headers })
}

function setHeaders({ requestId, answerHeaders }: Context, headers: Headers): void {
  headers.set('x-request-id', requestId)
  if (answerHeaders === undefined) return
  for (const [name, value] of Object.entries(answerHeaders)) {
    if (name !== 'vary') headers.set(name, value)
    else if (!headers.get(name)?.toLowerCase().includes(value.toLowerCase())) headers.append(name, value)
  }
}
