/** How many unknown credentials an address may present: two auth methods, one asked before all others, one after them, when none knew the credential. */
import { type AuthMethod, GatewayError } from 'portico'
import { addressKey } from './address-key.ts'
import { Limiter } from './limiter.ts'

/** Unknown credentials of one address in a minute. */
const maxGuesses = 60
/** The token of this machine's own commands: 256 bits that cost one comparison. A web page that floods from here must not lock the operator out. */
const localToken = /^ptl_[\w-]{43}$/

/**
 * Makes both. What the gate remembers is not asked for, and what it remembered before is no guess, so keys in use go on. A ticket has 256 bits and costs one look-up; any web page can make a browser
 * present a wrong one, which must not lock the keys of this address out.
 */
export function createGuessLimit(now: () => number): { readonly first: AuthMethod; readonly last: AuthMethod; readonly size: number } {
  const limiter = new Limiter({ windowMs: 60_000, maxRequests: maxGuesses, now })
  return {
    get size() {
      return limiter.size
    },
    first: {
      name: 'guesses',
      authenticate({ token, known, address }) {
        if (token === undefined || known || localToken.test(token) || address === '') return null
        const { allowed, resetSeconds } = limiter.peek(addressKey(address))
        if (allowed) return null
        throw new GatewayError('rate_limit_exceeded', 'Too many unknown credentials from this address; wait.', {
          retryAfter: resetSeconds,
          security: 'auth_failures',
        })
      },
    },
    last: {
      name: 'guesses',
      authenticate({ token, ticket, request, address }) {
        const isGuess = ticket === undefined && (token !== undefined || request.headers.has('authorization'))
        if (isGuess && address !== '') limiter.hit(addressKey(address))
        return null
      },
    },
  }
}
