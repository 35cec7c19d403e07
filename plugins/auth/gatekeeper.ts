/** The gatekeeper: who is calling, by the auth methods in order, and whether the route lets them in. */
import {
  type Arrival,
  type AuthAttempt,
  type AuthMethod,
  type AuthResult,
  type Entrance,
  type Gatekeeper,
  GatewayError,
  hasScope,
  inTime,
  type Principal,
  type ScopeRef,
} from 'portico'

/** What it works with. */
export interface GatekeeperOptions {
  authMethods(): readonly AuthMethod[]
  now(): number
}

type Credential = Pick<AuthAttempt, 'token' | 'ticket'>

const cacheMs = 60_000
const maxCached = 10_000
const maxPending = 1_000
const verifyMs = 10_000

/** Admits requests; remembers verified tokens. */
export class CachingGatekeeper implements Gatekeeper {
  readonly #options: GatekeeperOptions
  readonly #cache = new Map<string, { result: AuthResult; until: number }>()
  readonly #pending = new Map<string, Promise<AuthResult | null>>()
  #revocations = 0

  constructor(options: GatekeeperOptions) {
    this.#options = options
  }

  /** Verified tokens in memory. */
  get cached(): number {
    return this.#cache.size
  }

  admit(context: Arrival, entrance: Entrance, allowQueryToken: boolean): void | Promise<void> {
    const { access } = entrance.group
    if (access.kind === 'open' || access.kind === 'signed') return
    const credential = presented(context, entrance, allowQueryToken)
    const cached = credential.token === undefined ? undefined : this.#cache.get(credential.token)
    if (cached && cached.until > this.#options.now()) return enter(context, cached.result, access.scopes)
    return this.#verify(credential, context).then((result) => {
      const isPresented = credential.token !== undefined || credential.ticket !== undefined || context.request.headers.has('authorization')
      // Who presents nothing is never worse off for a method that knows him: where nobody needs a scope he stays anonymous.
      if (result && (isPresented || access.kind === 'guard' || hasOne(result.principal, access.scopes))) return enter(context, result, access.scopes)
      if (isPresented || access.kind === 'guard') throw refusal(context, entrance, isPresented)
    })
  }

  revoke(via: string): void {
    this.#revocations++
    for (const [key, { result }] of this.#cache) if (result.principal.via === via) this.#cache.delete(key)
  }

  #verify(credential: Credential, context: Arrival): Promise<AuthResult | null> {
    const { token } = credential
    if (token === undefined) return this.#ask(credential, context)
    // A method may look at the address: only requests of one address share its answer while it is made.
    const shareKey = `${token} ${context.address} ${context.loopback}`
    const shared = this.#pending.get(shareKey)
    if (shared !== undefined) return shared
    if (this.#pending.size >= maxPending)
      throw new GatewayError('rate_limit_exceeded', 'Too many credentials are being verified; try again.', { retryAfter: 1 })
    const revocations = this.#revocations
    const pending = this.#ask(credential, context).then((result) => {
      if (result && revocations === this.#revocations) this.#remember(token, result)
      return result
    })
    this.#pending.set(shareKey, pending)
    const forget = () => void this.#pending.delete(shareKey)
    pending.then(forget, forget)
    return pending
  }

  async #ask(credential: Credential, context: Arrival): Promise<AuthResult | null> {
    const abort = new AbortController()
    for (const method of this.#options.authMethods()) {
      let looked = false
      const attempt: AuthAttempt = {
        ...credential,
        known: credential.token !== undefined && this.#cache.has(credential.token),
        request: context.request,
        get address() {
          looked = true
          return context.address
        },
        get loopback() {
          looked = true
          return context.loopback
        },
      }
      const asked = method.authenticate(attempt, abort.signal)
      const late = () => {
        const error = new GatewayError('unavailable', `The auth method "${method.name}" did not answer in time; try again.`, { retryAfter: 5 })
        abort.abort(error)
        return error
      }
      const result = asked instanceof Promise ? await inTime(asked, verifyMs, late) : asked
      // Where the caller's place decided, the token alone must not let the next one in.
      if (result) return looked ? { ...result, cacheUntil: undefined } : result
    }
    return null
  }

  #remember(key: string, result: AuthResult): void {
    if (result.cacheUntil === undefined || result.held) return
    const now = this.#options.now()
    const until = Math.min(result.cacheUntil, now + cacheMs)
    if (!(until > now)) return
    this.#cache.delete(key)
    this.#cache.set(key, { result, until })
    if (this.#cache.size > maxCached) this.#cache.delete(this.#cache.keys().next().value ?? key)
  }
}

function presented({ request, url, queryAt }: Arrival, { group, socket }: Entrance, allowQueryToken: boolean): Credential {
  const given = request.headers.get('authorization')
  const token = given === null ? (request.headers.get('x-api-key') ?? undefined) : bearerOf(given)
  if (queryAt === -1 || !/[?&](?:token|ticket)=/.test(url)) return { token }
  const query = new URLSearchParams(url.slice(queryAt + 1))
  const isLive = socket !== undefined || (group.options.stream === true && (request.method === 'GET' || request.method === 'HEAD'))
  const queryToken = query.get('token') ?? undefined
  if (queryToken !== undefined && !(isLive && allowQueryToken)) {
    const next = isLive ? 'send a header, take a ticket from POST /api/tickets, or set gateway.allowQueryToken' : 'send it as Authorization: Bearer'
    throw new GatewayError('invalid_request', `A token does not belong into a URL, where logs keep it; ${next}.`, { param: 'token' })
  }
  const ticket = token === undefined ? (query.get('ticket') ?? undefined) : undefined
  if (ticket !== undefined && !isLive) {
    const headers = { 'www-authenticate': 'Bearer error="invalid_token"' }
    throw new GatewayError('invalid_api_key', 'A ticket opens streams and sockets only; send a credential as Authorization: Bearer.', { headers })
  }
  return ticket === undefined ? { token: token ?? queryToken } : { ticket }
}

function bearerOf(header: string): string | undefined {
  return header.startsWith('Bearer ') && header.indexOf(' ', 7) === -1 ? header.slice(7) || undefined : /^bearer +(\S+)\s*$/i.exec(header)?.[1]
}

function enter(context: Arrival, result: AuthResult, scopes: readonly ScopeRef[]): void {
  context.principal = result.principal
  context.auth = result
  if (hasOne(result.principal, scopes)) return
  const names = scopes.map(({ id }) => id)
  throw new GatewayError('insufficient_scope', `The credential is good, but lacks the scope ${names.map((name) => `"${name}"`).join(' or ')}.`, {
    headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${names.join(' ')}"` },
  })
}

const hasOne = (principal: Principal, scopes: readonly ScopeRef[]) => scopes.some(({ id }) => hasScope(principal, id))

function refusal({ request }: Arrival, { group }: Entrance, isPresented: boolean): GatewayError {
  const parts = [isPresented && 'error="invalid_token"', group.options.challenge?.(request)].filter(Boolean).join(', ')
  const headers = { 'www-authenticate': parts ? `Bearer ${parts}` : 'Bearer' }
  return isPresented
    ? new GatewayError('invalid_api_key', 'The credential is unknown, expired or revoked.', { headers })
    : new GatewayError('missing_credentials', 'This address needs a credential: send it as Authorization: Bearer, or as X-Api-Key.', { headers })
}
