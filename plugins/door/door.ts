/** What every request must pass before anything is looked up: Host, Origin, and a path without tricks; and what CORS says. */
import { type Arrival, type Door, type DoorPlace, GatewayError } from 'portico'

const loopbackNames = ['127.0.0.1', 'localhost', '[::1]']
/** What a path may not hold: dot segments, empty segments, backslashes, fragments, controls. */
const tricks = /\/\.{1,2}(?:\/|$)|\/\/|[\\#\s]|\p{Cc}/u
/** Escapes nobody needs: of a dot, a backslash, a control. */
const escapedTricks = /%(?:2e|5c|[01][0-9a-f]|7f)/i

const varies = { vary: 'Origin' }
const exposed = 'x-request-id, retry-after, ratelimit-limit, ratelimit-remaining, ratelimit-reset, www-authenticate'

/** Checks requests. */
export class OriginDoor implements Door {
  #origins: ReadonlySet<string> = new Set()
  #hosts: ReadonlySet<string> = new Set()

  place({ host, port, isTls, hosts, corsOrigins }: DoorPlace): void {
    this.#origins = new Set(corsOrigins.map((origin) => origin.replace(/\/$/, '').toLowerCase()))
    const bound = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
    const names = [...loopbackNames, ...(bound === '0.0.0.0' || bound === '[::]' ? [] : [bound]), ...hosts].map((name) => name.toLowerCase())
    this.#hosts = new Set(
      names.flatMap((name) => {
        // An entry without a port also stands for our own port.
        if (hasPort(name)) return [name]
        const own = loopbackNames.includes(name) || name === bound
        return [...(own && port !== (isTls ? 443 : 80) ? [] : [name]), `${name}:${port}`]
      }),
    )
  }

  admit(arrival: Arrival, routes: { allowed(path: string): readonly string[] }): Response | undefined {
    const { request, url } = arrival
    const { headers } = request
    const host = headers.get('host')
    const start = url.indexOf('//') + 2
    const slash = url.indexOf('/', start)
    if (start === 1 || slash === -1) throw badRequest('The request has no usable Host header or target.')
    const authority = url.slice(start, slash)
    // In process there is no connection on which a Host could be forged; without one the URL speaks.
    if (host === null ? arrival.peer.address !== '' : host !== authority && plain(host, url) !== plain(authority, url)) {
      throw badRequest(host === null ? 'The Host header is missing.' : 'The Host header does not match the address that was asked for.')
    }
    if (!this.#knows(authority)) {
      throw new GatewayError('host_not_allowed', 'The Host header names no host of this gateway; add it to gateway.hosts if it should.', {
        security: 'foreign_host',
      })
    }
    const query = url.indexOf('?', slash)
    const path = query === -1 ? url.slice(slash) : url.slice(slash, query)
    if (tricks.test(path) || (path.includes('%') && !isHonest(path)))
      throw badRequest('The path is not in its plain form: no dot segments, empty segments, backslashes or broken escapes.')
    arrival.path = path
    arrival.queryAt = query
    if (this.#origins.size > 0) arrival.answerHeaders = varies
    const origin = headers.get('origin')
    if (origin === null) return undefined
    this.#checkOrigin(arrival, origin)
    const isPreflight = request.method === 'OPTIONS' && headers.has('access-control-request-method')
    return isPreflight ? new Response(null, { status: 204, headers: preflightHeaders(request, routes.allowed(path)) }) : undefined
  }

  #knows(authority: string): boolean {
    return this.#hosts.has(authority) || this.#hosts.has(authority.toLowerCase())
  }

  #checkOrigin(arrival: Arrival, origin: string): void {
    const lower = origin.toLowerCase()
    const own = /^https?:\/\/([^/]+)$/.exec(lower)?.[1]
    if (own !== undefined && this.#knows(own)) return
    const isAny = this.#origins.has('*')
    if (!isAny && !this.#origins.has(lower)) {
      throw new GatewayError('origin_not_allowed', 'This Origin may not call the gateway; add it to gateway.corsOrigins if it should.', {
        security: 'foreign_origin',
      })
    }
    arrival.answerHeaders = { ...varies, 'access-control-allow-origin': isAny ? '*' : origin, 'access-control-expose-headers': exposed }
  }
}

/** Headers of the answer to a CORS preflight. No credentials mode: callers send a bearer. */
function preflightHeaders(request: Request, methods: readonly string[]): Record<string, string> {
  const asked = request.headers.get('access-control-request-headers') ?? ''
  return {
    'access-control-allow-methods': methods.join(', '),
    'access-control-allow-headers': /^[\w\-, ]*$/.test(asked) ? asked : '',
    'access-control-max-age': '600',
  }
}

/** Bun leaves the scheme's own port out of the URL. */
const plain = (authority: string, url: string) => authority.toLowerCase().replace(url.startsWith('https:') ? /:443$/ : /:80$/, '')

const badRequest = (message: string) => new GatewayError('invalid_request', message)

function hasPort(name: string): boolean {
  return /:\d+$/.test(name) && (!name.startsWith('[') || name.includes(']:'))
}

/** A slash may be escaped (a model's name has one), but not so that tricks appear when it is decoded. */
function isHonest(path: string): boolean {
  if (escapedTricks.test(path)) return false
  try {
    return !/\/\.{1,2}(?:\/|$)|\/\//.test(decodeURIComponent(path))
  } catch {
    return false
  }
}
