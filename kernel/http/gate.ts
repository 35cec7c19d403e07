/** The access gate: who is calling, by the auth methods in order, and whether the group lets them in. */
import type { Access } from '../contract/access.ts'
import type { Deadlines } from '../contract/deadlines.ts'
import { GatewayError } from '../contract/errors.ts'
import { type AuthAttempt, type AuthMethod, type AuthResult, anonymous, hasScope, type Principal } from '../contract/principal.ts'
import { addressKey } from './address.ts'
import type { Context } from './context.ts'
import { Limiter } from './limiter.ts'
import type { Target } from './table.ts'

/** What the gate works with. */
export interface GateOptions {
  authMethods(): readonly AuthMethod[]
  readonly allowQueryToken: boolean
  readonly deadlines: Deadlines
  now(): number
}

const cacheMs = 60_000
const maxCached = 10_000
const maxPending = 1_000
const verifyMs = 10_000
/** Unknown credentials of one address in a minute. */
const maxFailures = 60

/** Admits requests. */
export class Gate {
  readonly #options: GateOptions
  readonly #cache = new Map<string, { result: AuthResult; until: number }>()
  readonly #pending = new Map<string, Promise<AuthResult | null>>()
  readonly #failures: Limiter
  #revocations = 0

  constructor(options: GateOptions) {
    this.#options = options
    this.#failures = new Limiter({ windowMs: 60_000, maxRequests: maxFailures, now: options.now })
  }

  /** Verified tokens in memory. */
  get cached(): number {
    return this.#cache.size
  }

  /** Sets the context's principal, or throws 400, 401, 403 or 429. A promise only when a credential has to be verified. */
  admit(context: Context, target: Target): void | Promise<void> {
    const { access } = target.group
    if (access.kind === 'open' || access.kind === 'signed') return
    const { token, ticket } = this.#presented(context, target)
    if (token !== undefined) {
      const cached = this.#cache.get(token)
      if (cached && cached.until > this.#options.now()) return settle(context, target, access, cached.result, true)
    }
    return this.#verify({ token, ticket }, context).then((result) => {
      const isPresented = token !== undefined || ticket !== undefined || context.request.headers.has('authorization')
      if (result === null && isPresented && ticket === undefined && context.address !== '') this.#failures.hit(addressKey(context.address))
      settle(context, target, access, result, isPresented)
    })
  }

  /** Forgets the tokens of a credential, also of a verification under way. */
  revoke(via: string): void {
    this.#revocations++
    for (const [key, { result }] of this.#cache) if (result.principal.via === via) this.#cache.delete(key)
  }

  #presented({ request, url, queryAt }: Context, { group, socket }: Target): { token?: string; ticket?: string } {
    const given = request.headers.get('authorization')
    const bearer = given === null ? undefined : bearerOf(given)
    const token = bearer ?? (given === null ? (request.headers.get('x-api-key') ?? undefined) : undefined)
    if (queryAt === -1 || !/[?&](?:token|ticket)=/.test(url)) return { token }
    const query = new URLSearchParams(url.slice(queryAt + 1))
    const isLive = socket !== undefined || (group.options.stream === true && (request.method === 'GET' || request.method === 'HEAD'))
    const queryToken = query.get('token')
    if (queryToken !== null && !(isLive && this.#options.allowQueryToken)) {
      const next = isLive ? 'send a header, take a ticket from POST /api/tickets, or set gateway.allowQueryToken' : 'send it as Authorization: Bearer'
      throw new GatewayError('invalid_request', `A token does not belong into a URL, where logs keep it; ${next}.`, { param: 'token' })
    }
    const ticket = isLive ? (query.get('ticket') ?? undefined) : undefined
    return token === undefined && ticket === undefined ? { token: queryToken ?? undefined } : { token, ticket: token === undefined ? ticket : undefined }
  }

  #verify(credential: { token?: string; ticket?: string }, context: Context): Promise<AuthResult | null> {
    const { token } = credential
    // A ticket has 256 bits and costs one look-up; any web page can make a browser present a wrong one, which must not lock the keys of this address out.
    if (token !== undefined) this.#refuseGuessing(context)
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

  async #ask(credential: { token?: string; ticket?: string }, context: Context): Promise<AuthResult | null> {
    const abort = new AbortController()
    for (const method of this.#options.authMethods()) {
      let looked = false
      const attempt: AuthAttempt = {
        ...credential,
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
      const result = asked instanceof Promise ? await this.#inTime(asked, abort, method.name) : asked
      // Where the caller's place decided, the token alone must not let the next one in.
      if (result) return looked ? { ...result, cacheUntil: undefined } : result
    }
    return null
  }

  #inTime(asked: Promise<AuthResult | null>, abort: AbortController, name: string): Promise<AuthResult | null> {
    const { deadlines } = this.#options
    return new Promise((resolve, reject) => {
      const wait = deadlines.start(verifyMs, () => {
        const error = new GatewayError('unavailable', `The auth method "${name}" did not answer in time; try again.`, { retryAfter: 5 })
        abort.abort(error)
        reject(error)
      })
      asked.finally(() => deadlines.end(wait)).then(resolve, reject)
    })
  }

  #remember(key: string, result: AuthResult): void {
    if (result.cacheUntil === undefined || result.held) return
    const now = this.#options.now()
    const until = Math.min(result.cacheUntil, now + cacheMs)
    if (!(until > now)) return
    if (this.#cache.size >= maxCached) {
      const oldest = this.#cache.keys().next()
      if (!oldest.done) this.#cache.delete(oldest.value)
    }
    this.#cache.delete(key)
    this.#cache.set(key, { result, until })
  }

  #refuseGuessing({ address }: Context): void {
    if (address === '') return
    const { allowed, resetSeconds } = this.#failures.peek(addressKey(address))
    if (!allowed) throw new GatewayError('rate_limit_exceeded', 'Too many unknown credentials from this address; wait.', { retryAfter: resetSeconds })
  }
}

function bearerOf(header: string): string | undefined {
  return header.startsWith('Bearer ') && header.indexOf(' ', 7) === -1 ? header.slice(7) || undefined : /^bearer +(\S+)\s*$/i.exec(header)?.[1]
}

function settle(context: Context, target: Target, access: Exclude<Access, { kind: 'open' | 'signed' }>, result: AuthResult | null, isPresented: boolean): void {
  if (result) {
    context.principal = result.principal
    context.auth = result
    if (!isAllowed(result.principal, access.scopes)) throw lacking(access.scopes)
    return
  }
  if (!isPresented && access.kind === 'optional') {
    context.principal = anonymous
    return
  }
  const extra = target.group.options.challenge?.(context.request)
  const parts = [isPresented ? 'error="invalid_token"' : undefined, extra].filter((part) => part !== undefined)
  const headers = { 'www-authenticate': parts.length === 0 ? 'Bearer' : `Bearer ${parts.join(', ')}` }
  throw isPresented
    ? new GatewayError('invalid_api_key', 'The credential is unknown, expired or revoked.', { headers })
    : new GatewayError('missing_credentials', 'This address needs a credential: send it as Authorization: Bearer, or as X-Api-Key.', { headers })
}

function isAllowed(principal: Principal, scopes: readonly { id: string }[]): boolean {
  for (const scope of scopes) if (hasScope(principal, scope.id)) return true
  return false
}

function lacking(scopes: readonly { id: string }[]): GatewayError {
  const names = scopes.map(({ id }) => id)
  return new GatewayError('insufficient_scope', `The credential is good, but lacks the scope ${names.map((name) => `"${name}"`).join(' or ')}.`, {
    headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${names.join(' ')}"` },
  })
}
