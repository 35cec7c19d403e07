/** The two limits of requests, and what of them a client is shown. */
import { GatewayError, type RequestContext, type RequestLimit, type StreamLimit } from 'portico'
import { addressKey } from './address-key.ts'
import { Limiter, type LimiterOptions, type LimitState } from './limiter.ts'

/** Counts the requests of an address before anything is verified. Calls in process have none. */
export function createAddressLimit(options: LimiterOptions): RequestLimit & { readonly size: number } {
  const limiter = new Limiter(options)
  return {
    get size() {
      return limiter.size
    },
    arrived(request) {
      if (request.address !== '') judge(request, limiter.hit(addressKey(request.address)), 'this address')
    },
  }
}

/** Counts the requests of a principal; anonymous callers are told apart by address. */
export function createPrincipalLimit(options: LimiterOptions): RequestLimit & { readonly size: number } {
  const limiter = new Limiter(options)
  return {
    get size() {
      return limiter.size
    },
    admitted(request) {
      judge(request, limiter.hit(callerOf(request)), 'this caller')
    },
  }
}

/** Counts the live streams and sockets of a caller. */
export function createStreamLimit(): StreamLimit {
  const open = new Map<string, number>()
  return (request, by, most) => {
    const key = callerOf(request)
    const count = (open.get(key) ?? 0) + by
    if (by > 0 && count > most)
      throw new GatewayError('rate_limit_exceeded', `At most ${most} live streams and sockets per caller; close one first.`, { retryAfter: 5 })
    if (count > 0) open.set(key, count)
    else open.delete(key)
  }
}

function callerOf({ principal, address }: RequestContext): string {
  return principal.kind === 'anonymous' ? `@${address}` : principal.id
}

/** Throws when the call is not allowed. Of several limits the nearest is shown. */
function judge(request: RequestContext, { allowed, limit, remaining, resetSeconds }: LimitState, who: string): void {
  const shown = request.answerHeaders?.['ratelimit-remaining']
  if (shown === undefined || remaining < Number(shown) || !allowed) {
    request.answerHeaders = {
      ...request.answerHeaders,
      ...{ 'ratelimit-limit': `${limit}`, 'ratelimit-remaining': `${remaining}`, 'ratelimit-reset': `${resetSeconds}` },
    }
  }
  if (!allowed) throw new GatewayError('rate_limit_exceeded', `Too many requests of ${who}; try again in ${resetSeconds} s.`, { retryAfter: resetSeconds })
}
