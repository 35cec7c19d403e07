/** The auth method `none`: who is on this machine and presents nothing is the local user. */
import type { AuthMethod, Principal } from 'portico'

/** Makes the method. It lets nobody in who presented a credential, came through a proxy or from elsewhere, or is a page of another origin in a browser. */
export function createLocalMethod(scopes: readonly string[]): AuthMethod {
  const principal: Principal = Object.freeze({ id: 'local-user', kind: 'user', scopes, groups: [], via: 'none:local' })
  return {
    name: 'none',
    authenticate(attempt) {
      const { token, ticket, request } = attempt
      const { headers } = request
      if (token !== undefined || ticket !== undefined || headers.has('authorization') || headers.has('x-api-key')) return null
      if (isFromAnotherPage(headers) || !attempt.loopback) return null
      return { principal }
    },
  }
}

/**
 * A page that its user opened runs on this machine, too, but does not speak for him. The kernel refuses origins it does not know; here those of
 * `gateway.corsOrigins` gain nothing either, and requests that browsers send without an Origin (images, frames, links) tell themselves by Sec-Fetch-Site.
 */
function isFromAnotherPage(headers: Headers): boolean {
  const origin = headers.get('origin')
  const site = headers.get('sec-fetch-site')
  const isOwn = origin === null || origin.toLowerCase().replace(/^https?:\/\//, '') === headers.get('host')?.toLowerCase()
  return !isOwn || (site !== null && site !== 'same-origin' && site !== 'none')
}
