/** Bearers with all scopes that no plugin knows: one of this machine's own commands, made anew at each start, and `PORTICO_TOKEN`. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { AuthMethod } from '../contract/principal.ts'
import { isForwarded, isLoopbackAddress } from '../http/address.ts'
import { Redactor } from './redactor.ts'

/** What a gateway is started with so that they are accepted. */
export interface LocalAccess {
  /** The random one: accepted from loopback and in process. */
  readonly token: string
  /** The other options of `startGateway`: they are accepted, and never written. */
  readonly options: { readonly authMethods: readonly AuthMethod[]; readonly redactor: Redactor }
}

/** Makes the random one, and takes `PORTICO_TOKEN` from the environment, which is accepted from anywhere. */
export function createLocalAccess(env: Readonly<Record<string, string | undefined>>): LocalAccess {
  const token = `ptl_${randomBytes(32).toString('base64url')}`
  const fromEnv = env.PORTICO_TOKEN ? [env.PORTICO_TOKEN] : []
  const authMethods = [fixedToken('local', token, { loopbackOnly: true }), ...fromEnv.map((value) => fixedToken('env', value, { loopbackOnly: false }))]
  return { token, options: { authMethods, redactor: new Redactor([token, ...fromEnv]) } }
}

/** Accepts one known token by a constant-time comparison; with `loopbackOnly` from this machine alone, and through no proxy. */
function fixedToken(name: string, token: string, { loopbackOnly }: { loopbackOnly: boolean }): AuthMethod {
  const expected = digest(token)
  const principal = { id: name, kind: 'user', scopes: ['admin', 'rpc', 'api'], groups: [], via: `${name}:${name}` } as const
  return {
    name,
    authenticate({ token: presented, address, request }) {
      // By the caller's address, not by the gateway's: commands work beside one that listens publicly too.
      if (presented === undefined || (loopbackOnly && (!isLoopbackAddress(address) || isForwarded(request.headers)))) return null
      if (!timingSafeEqual(digest(presented), expected)) return null
      // A cached token would be accepted from any address.
      return loopbackOnly ? { principal } : { principal, cacheUntil: Number.POSITIVE_INFINITY }
    },
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
