/** What other plugins may ask of the limits: whether an address guesses too much. */
import { defineService } from 'portico'

/** Counts what an address guessed wrong, together with its unknown credentials. Calls in process have no address, and are not counted. */
export interface GuessLimit {
  /** Before anything is compared. @throws GatewayError `rate_limit_exceeded`, with Retry-After */
  check(address: string): void
  /** A guess was wrong. */
  missed(address: string): void
}

/** For plugins that take secrets which are no credentials, such as codes. */
export const guessLimit = defineService<GuessLimit>('guess-limit')
