/** How many secrets an address may guess wrong. For credentials: two auth methods, one asked before all others, one after them, when none knew the credential. */
import { type AuthMethod, GatewayError } from 'portico'
import { addressKey } from './address-key.ts'
import type { GuessLimit } from './contract.ts'
import { Limiter } from './limiter.ts'

/** Wrong guesses of one address in a minute. */
const maxGuesses = 60
/** The token of this machine's own commands: 256 bits that cost one comparison. A web page that floods from here must not lock the operator out. */
const localToken = /^ptl_[\w-]{43}$/

/**
 * Makes them. What the gate remembers is not asked for, and what it remembered before is no guess, so keys in use go on. A ticket has 256 bits and costs one look-up; any web page can make a browser
 * present a wrong one, which must not lock the keys of this address out.
 */
export function createGuessLimit(now: () => number): GuessLimit & { readonly first: AuthMethod; readonly last: AuthMethod; readonly size: number } {
  const limiter = new Limiter({ windowMs: 60_000, maxRequests: maxGuesses, now })
  const check = (address: string) => {
    if (address === '') return
    const { allowed, resetSeconds } = limiter.peek(addressKey(address))
    if (!allowed)
      throw new GatewayError('rate_limit_exceeded', 'Too many wrong guesses from this address; wait.', { retryAfter: resetSeconds, security: 'auth_failures' })
  }
  const missed = (address: string) => {
    if (address !== '') limiter.hit(addressKey(address))
  }
  return {
    ...{ check, missed },
    get size() {
      return limiter.size
    },
    first: {
      name: 'guesses',
      authenticate({ token, known, address }) {
        if (token !== undefined && !known && !localToken.test(token)) check(address)
        return null
      },
    },
    last: {
      name: 'guesses',
      authenticate({ token, ticket, request, address }) {
        if (ticket === undefined && (token !== undefined || request.headers.has('authorization'))) missed(address)
        return null
      },
    },
  }
}
