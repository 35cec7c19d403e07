/** What every request must pass before anything is looked up: Host, Origin, and a path without tricks. */
import type { GatewayConfig } from '../config/index.ts'
import { GatewayError } from '../contract/errors.ts'
import type { Context } from './context.ts'

const loopbackNames = ['127.0.0.1', 'localhost', '[::1]']
/** What a path may not hold: dot segments, empty segments, backslashes, fragments, controls. */
const tricks = /\/\.{1,2}(?:\/|$)|\/\/|[\\#\s]|\p{Cc}/u
/** Escapes nobody needs: of a dot, a backslash, a control. */
const escapedTricks = /%(?:2e|5c|[01][0-9a-f]|7f)/i

/** Checks requests. */
export class Door {
  readonly #names: readonly string[]
  readonly #origins: ReadonlySet<string>
  #hosts: ReadonlySet<string> = new Set()

  /** `hosts` beside the loopback names: an entry without a port also stands for our own port. */
  constructor({ hosts, corsOrigins }: Pick<GatewayConfig, 'hosts' | 'corsOrigins'>) {
    this.#names = hosts
    this.#origins = new Set(corsOrigins.map((origin) => origin.replace(/\/$/, '').toLowerCase()))
  }

  /** Whether answers differ by Origin. */
  get variesByOrigin(): boolean {
    return this.#origins.size > 0
  }

  /** Where we listen, or would: no Host is known before. */
  setOrigin(host: string, port: number, isTls = false): void {
    const bound = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
    const names = [...loopbackNames, ...(bound === '0.0.0.0' || bound === '[::]' ? [] : [bound]), ...this.#names].map((name) => name.toLowerCase())
    this.#hosts = new Set(
      names.flatMap((name) => {
        if (hasPort(name)) return [name]
        const own = loopbackNames.includes(name) || name === bound
        return [...(own && port !== (isTls ? 443 : 80) ? [] : [name]), `${name}:${port}`]
      }),
    )
  }

  /** Throws 400 or 403; sets the context's path, query and CORS origin. */
  admit(context: Context): void {
    const { request, url } = context
    const { headers } = request
    const host = headers.get('host')
    const start = url.indexOf('//') + 2
    const slash = url.indexOf('/', start)
    if (start === 1 || slash === -1) throw badRequest('The request has no usable Host header or target.')
    const authority = url.slice(start, slash)
    // In process there is no connection on which a Host could be forged; without one the URL speaks.
    if (host === null ? context.peer.address !== '' : host !== authority && plain(host, url) !== plain(authority, url)) {
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
    context.path = path
    context.queryAt = query
    const origin = headers.get('origin')
    if (origin !== null) this.#checkOrigin(context, origin)
  }

  #knows(authority: string): boolean {
    return this.#hosts.has(authority) || this.#hosts.has(authority.toLowerCase())
  }

  #checkOrigin(context: Context, origin: string): void {
    const lower = origin.toLowerCase()
    const own = /^https?:\/\/([^/]+)$/.exec(lower)?.[1]
    if (own !== undefined && this.#knows(own)) return
    const isAny = this.#origins.has('*')
    if (!isAny && !this.#origins.has(lower)) {
      throw new GatewayError('origin_not_allowed', 'This Origin may not call the gateway; add it to gateway.corsOrigins if it should.', {
        security: 'foreign_origin',
      })
    }
    context.corsOrigin = isAny ? '*' : origin
  }
}

/** Headers of the answer to a CORS preflight. No credentials mode: callers send a bearer. */
export function preflightHeaders(request: Request, methods: readonly string[]): Record<string, string> {
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
