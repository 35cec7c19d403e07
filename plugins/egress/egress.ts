/** The service: resolves, judges, connects, asks, and follows redirects, which are judged the same way. */
import { isIP } from 'node:net'
import { Deadlines, isGatewayError } from 'portico'
import { Call } from './call.ts'
import type { EgressConfig } from './config.ts'
import type { Egress, EgressInit } from './contract.ts'
import { type Outgoing, redirected, redirectOf, toOutgoing, toUrl } from './outgoing.ts'
import { createPlaces } from './places.ts'
import { createPolicy, nameOf } from './policy.ts'
import { type Refusal, toError, upstreamError } from './refusal.ts'

/** What the service is made of. */
export interface EgressOptions {
  readonly config: EgressConfig
  /** Aborted when all that is under way has to end. */
  readonly signal: AbortSignal
  /** Every address of a host name. */
  resolve(name: string): Promise<readonly string[]>
  /** Told of each refusal. */
  refused(refusal: Refusal): void
  /** Certificate authorities instead of the runtime's own, PEM. */
  readonly ca?: string
}

/** The config with what the call says instead. */
type Limits = Required<Pick<EgressInit, 'maxRedirects' | 'maxBytes' | 'timeoutMs' | 'connectTimeoutMs' | 'headTimeoutMs'>>

/** One address of a call's way, and how its host is called to the caller: by name only if the caller named it. */
interface Hop extends Outgoing {
  readonly label: string
}

/** Makes the service; throws `config_invalid`. */
export function createEgress({ config, signal: stop, resolve, refused, ca }: EgressOptions): Egress {
  const policy = createPolicy(config)
  const deadlines = new Deadlines()
  const places = createPlaces(config.maxConcurrent, config.maxConcurrentPerHost)
  const lookups = createPlaces(config.maxConcurrent, config.maxConcurrent)

  function begin({ signal, purpose }: EgressInit): Call {
    const call = new Call(deadlines, (refusal) => {
      refused({ ...refusal, purpose })
      return toError(refusal)
    })
    call.follow(stop)
    call.follow(signal)
    return call
  }

  /** The host's addresses, all of them checked. */
  async function locate(call: Call, url: URL, label: string): Promise<readonly string[]> {
    const wrong = policy.checkUrl(url, label)
    if (wrong) throw call.refuse(wrong)
    const name = nameOf(url)
    const addresses = isIP(name) === 0 ? await call.race(lookUp(call, name, label)) : [name]
    const inward = policy.checkAddresses(url, addresses, label)
    if (inward) throw call.refuse(inward)
    return addresses
  }

  /** A look-up cannot be stopped: its place is free when it is over, not when nobody waits any more. */
  async function lookUp(call: Call, name: string, label: string): Promise<readonly string[]> {
    const leave = lookups.take()
    if (!leave) throw call.refuse(busy(name, 'for names'))
    const failed = (cause?: unknown) => upstreamError(`No address was found for ${label}; look at how it is spelled.`, cause)
    try {
      const addresses = await resolve(name)
      if (addresses.length > 0) return addresses
    } catch (error) {
      throw failed(error)
    } finally {
      leave()
    }
    throw failed()
  }

  /** Asks one address; settles with the head, and with what leaves the connection. */
  async function ask(call: Call, hop: Hop, { connectTimeoutMs, headTimeoutMs }: Limits) {
    const { url, label } = hop
    const connected = call.limit(connectTimeoutMs, `There was no connection to ${label} within ${connectTimeoutMs} ms.`)
    const addresses = await locate(call, url, label)
    const leaveHost = places.takeFor(nameOf(url))
    if (!leaveHost) throw call.refuse(busy(url.hostname, `to ${label}`))
    const left = call.defer(leaveHost)
    const strayed = (address: string) => {
      const message = `The connection to ${label} did not end where it was to; the operator has to look, a proxy may stand in between.`
      return call.refuse({ reason: 'address', message, host: url.hostname, address })
    }
    try {
      const { connect, exchange } = await wire()
      const socket = await connect(url, { addresses, ca, signal: call.signal, strayed })
      const closed = call.defer(() => socket.destroy())
      connected()
      let answered = () => {}
      const sent = () => {
        answered = call.limit(headTimeoutMs, `The server at ${label} did not answer within ${headTimeoutMs} ms.`)
      }
      const message = await exchange(hop, { socket, maxHeaderBytes: config.maxHeaderBytes, signal: call.signal, sent })
      answered()
      const leave = () => {
        closed()
        left()
      }
      return { message, leave }
    } catch (error) {
      throw isGatewayError(error) ? error : unreachable(error, label)
    }
  }

  return {
    async fetch(target, init = {}) {
      const call = begin(init)
      const limits = limitsOf(config, init)
      const { maxRedirects, maxBytes } = limits
      try {
        call.signal.throwIfAborted()
        const url = toUrl(target)
        let hop: Hop = { ...toOutgoing(url, init), label: labelOf(url) }
        const leavePlace = places.take()
        if (!leavePlace) throw call.refuse(busy(url.hostname, 'to other servers'))
        call.defer(leavePlace)
        call.limit(limits.timeoutMs, `The answer was not complete within ${limits.timeoutMs} ms.`)
        for (let redirects = 0; ; redirects++) {
          const { message, leave } = await ask(call, hop, limits)
          const status = message.statusCode ?? 0
          const location = maxRedirects === 0 ? null : redirectOf(status, message.headers.location)
          if (location === null) return (await wire()).toResponse(call, message, { ...hop, maxBytes, isRedirected: redirects > 0 })
          leave()
          if (redirects >= maxRedirects) {
            throw call.refuse({ reason: 'redirects', message: `The server redirects more than ${maxRedirects} times.`, host: hop.url.hostname })
          }
          const next = redirected(hop, status, location)
          if (hop.url.protocol === 'https:' && next.url.protocol === 'http:') throw call.refuse({ ...downgrade, host: hop.url.hostname })
          hop = { ...next, label: 'the host that the server redirects to' }
        }
      } catch (error) {
        call.end()
        // Whoever fills a body that was never begun has to learn that nobody wants it.
        if (init.body instanceof ReadableStream && !init.body.locked) init.body.cancel(error).catch(() => undefined)
        throw call.signal.aborted ? call.signal.reason : error
      }
    },

    async check(target, init = {}) {
      const call = begin(init)
      try {
        call.signal.throwIfAborted()
        const url = toUrl(target)
        const label = labelOf(url)
        call.limit(config.connectTimeoutMs, `No address was found for ${label} within ${config.connectTimeoutMs} ms.`)
        await locate(call, url, label)
        call.signal.throwIfAborted()
      } finally {
        call.end()
      }
    },
  }
}

/** What speaks HTTP, loaded when first needed: a start has other things to do. */
let loading: Promise<Wire> | undefined
type Wire = typeof import('./connect.ts') & typeof import('./exchange.ts') & typeof import('./response.ts')
function wire(): Promise<Wire> {
  loading ??= Promise.all([import('./connect.ts'), import('./exchange.ts'), import('./response.ts')]).then(([one, two, three]) => ({
    ...one,
    ...two,
    ...three,
  }))
  return loading
}

const downgrade = {
  reason: 'downgrade',
  message: 'The server redirects from https to http, where anybody can read along; ask for the final address if that is meant.',
} as const

function busy(host: string, whose: string): Refusal {
  return { reason: 'busy', message: `Too many requests ${whose} are under way; try again.`, host }
}

function labelOf(url: URL): string {
  return `the host "${nameOf(url).slice(0, 253)}"`
}

function limitsOf(config: EgressConfig, init: EgressInit): Limits {
  const pick = <K extends keyof Limits>(key: K): number => init[key] ?? config[key]
  return {
    maxRedirects: pick('maxRedirects'),
    maxBytes: pick('maxBytes'),
    timeoutMs: pick('timeoutMs'),
    connectTimeoutMs: pick('connectTimeoutMs'),
    headTimeoutMs: pick('headTimeoutMs'),
  }
}

/** The runtime's code tells enough. */
function unreachable(cause: unknown, label: string): Error {
  const code = String((cause as { code?: unknown } | null)?.code ?? '')
  const subject = label.charAt(0).toUpperCase() + label.slice(1)
  if (/CERT|TLS|SSL|VERIFY|SELF_SIGNED/.test(code)) return upstreamError(`${subject} has no certificate that is valid for its name, or speaks no TLS.`, cause)
  if (code === 'HPE_HEADER_OVERFLOW') return upstreamError(`The head of the answer of ${label} is over the limit.`, cause)
  if (code.startsWith('HPE_')) return upstreamError(`What ${label} answers is not HTTP.`, cause)
  return upstreamError(`${subject} could not be reached, or broke off before its answer.`, cause)
}
