/** A connection to an address that was checked, and to no other: the name is not looked up again, and no proxy of the environment is taken. */
import { isIP, type LookupFunction, connect as openTcp, type Socket } from 'node:net'
import { connect as openTls } from 'node:tls'
import { parseAddress } from './addresses.ts'
import { nameOf, portOf } from './policy.ts'

/** What `connect` works with. */
export interface ConnectOptions {
  /** Those that were checked; tried in this order, families in turn. */
  readonly addresses: readonly string[]
  /** Certificate authorities instead of the runtime's own, PEM. */
  readonly ca?: string
  readonly signal: AbortSignal
  /** The error of a connection that ended elsewhere. */
  strayed(address: string): Error
}

/** Connects, and for https shakes hands: the certificate must be valid for the URL's host. Not a byte is sent before the address is compared. */
export function connect(url: URL, { addresses, ca, signal, strayed }: ConnectOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const host = nameOf(url)
    const tcp = openTcp({ host, port: portOf(url), lookup: pinnedTo(addresses) })
    const fail = (error: unknown) => {
      tcp.destroy()
      reject(error)
    }
    const stop = () => fail(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    tcp.on('error', fail)
    tcp.once('close', () => signal.removeEventListener('abort', stop))
    tcp.once('connect', () => {
      const { remoteAddress } = tcp
      if (remoteAddress !== undefined && !addresses.some((address) => isSame(address, remoteAddress))) return fail(strayed(remoteAddress))
      if (url.protocol !== 'https:') return resolve(tcp)
      const servername = isIP(host) === 0 ? host : undefined
      const tls = openTls({ socket: tcp, host, servername, ca, rejectUnauthorized: true, ALPNProtocols: ['http/1.1'] })
      tls.on('error', fail)
      tls.once('secureConnect', () => resolve(tls))
    })
  })
}

function pinnedTo(addresses: readonly string[]): LookupFunction {
  const found = addresses.map((address) => ({ address, family: isIP(address) }))
  return (_host, options, callback) => {
    const [first] = found
    if (options.all || !first) callback(null, found)
    else callback(null, first.address, first.family)
  }
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [parseAddress(one), parseAddress(other)]
  return a !== null && b !== null && a.bits === b.bits && a.value === b.value
}
