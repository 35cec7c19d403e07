/** Whether a provider may be called: repeated failures and a refused credential make it cool down, an answer makes it well. */
import { GatewayError } from 'portico'

const threshold = 5
const firstCooldownMs = 1_000
const longestCooldownMs = 60_000

/** What happened, for the events. Times in ms since the epoch. */
export interface HealthReports {
  degraded(reason: string, failures: number, until: number): void
  unauthorized(status: number, until: number): void
  recovered(downMs: number): void
}

/** One provider's health. */
export interface Health {
  readonly state: 'ok' | 'degraded' | 'auth_cooldown'
  readonly until: number
  /** Throws while it cools down. */
  admit(): void
  /** It answered, whatever it said. */
  answered(): void
  /** It could not be reached, or a part of it is down. `since` = when the call began. */
  failed(reason: string, since: number): void
  /** It refused our credential. */
  refused(status: number, since: number): void
}

/** Starts well. The cooldown begins with a second and doubles to a minute while the trouble lasts. */
export function createHealth(id: string, now: () => number, reports: HealthReports): Health {
  let state: Health['state'] = 'ok'
  let failures = 0
  let cooldowns = 0
  let began = 0
  let coolingSince = 0
  let until = 0

  function cool(next: 'degraded' | 'auth_cooldown'): number {
    coolingSince = now()
    if (state === 'ok') began = coolingSince
    state = next
    until = coolingSince + Math.min(longestCooldownMs, firstCooldownMs * 2 ** cooldowns)
    cooldowns++
    return until
  }

  return {
    get state() {
      return state
    },
    get until() {
      return until
    },
    admit() {
      if (state === 'ok' || now() >= until) return
      const seconds = Math.ceil((until - now()) / 1_000)
      if (state === 'degraded') {
        throw new GatewayError('unavailable', `The provider "${id}" failed ${failures} times in a row and is left alone for ${seconds} s. Try again then.`, {
          retryAfter: seconds,
        })
      }
      throw refusal(id, seconds)
    },
    answered() {
      failures = 0
      if (state === 'ok') return
      state = 'ok'
      cooldowns = 0
      reports.recovered(Math.max(0, Math.round(now() - began)))
    },
    failed(reason, since) {
      failures++
      // Calls that began before the cooldown say nothing new.
      if (failures < threshold || (state !== 'ok' && since <= coolingSince)) return
      reports.degraded(reason, failures, cool('degraded'))
    },
    refused(status, since) {
      if (state === 'auth_cooldown' && since <= coolingSince) return
      reports.unauthorized(status, cool('auth_cooldown'))
    },
  }
}

/** The gateway's own credential was refused: not the client's fault, so no 401. */
export function refusal(id: string, retryAfter?: number): GatewayError {
  return new GatewayError(
    'upstream_error',
    `The provider "${id}" refuses the gateway's own credential (not yours). The operator has to correct apiKey under [models.providers.${id}].`,
    { retryAfter },
  )
}
