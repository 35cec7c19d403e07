/** What may be asked: judged by the URL as it is written, and by the addresses its host has. Asks no network. */
import { GatewayError } from 'portico'
import { type AddressKind, type Block, carriedBy, isWithin, kindOf, parseAddress, parseBlock } from './addresses.ts'
import type { EgressConfig } from './config.ts'
import type { Refusal } from './refusal.ts'

/** The judge. Each answers null for what may be asked. `label` is how the host is called to the caller. */
export interface Policy {
  checkUrl(url: URL, label: string): Refusal | null
  /** Every address must pass: which of them is connected to is decided later. */
  checkAddresses(url: URL, addresses: readonly string[], label: string): Refusal | null
}

/** What a host allowed by its name may be: in networks of one's own. Whoever means more says the address. */
const openedByName: ReadonlySet<AddressKind> = new Set(['loopback', 'private', 'shared'])

/** Makes the judge; throws `config_invalid` on an entry of `allowPrivate` that is no address, block or host. */
export function createPolicy(config: Pick<EgressConfig, 'allowPrivate' | 'httpsOnly' | 'allowedPorts' | 'blockedPorts'>): Policy {
  const { httpsOnly } = config
  const allowed = config.allowPrivate.map(parseEntry)
  const allowedBlocks = allowed.filter((entry) => typeof entry !== 'string')
  const allowedHosts = new Set(allowed.filter((entry) => typeof entry === 'string'))
  const allowedPorts = new Set(config.allowedPorts)
  const blockedPorts = new Set(config.blockedPorts)
  const isOpenPort = (port: number) => (allowedPorts.size > 0 ? allowedPorts.has(port) : !blockedPorts.has(port))

  function kindIfRefused(text: string, byName: boolean): AddressKind | null {
    const address = parseAddress(text)
    if (!address) return 'reserved'
    if (allowedBlocks.some((block) => isWithin(address, block))) return null
    for (const inner of carriedBy(address)) {
      const kind = kindOf(inner)
      if (kind === null || (byName && openedByName.has(kind)) || allowedBlocks.some((block) => isWithin(inner, block))) continue
      return kind
    }
    return null
  }

  return {
    checkUrl(url, label) {
      const { protocol, hostname: host } = url
      if (protocol !== 'https:' && (protocol !== 'http:' || httpsOnly)) {
        const message = `Only ${httpsOnly ? 'https' : 'http and https'} addresses are fetched; this one begins with "${protocol.slice(0, 40)}".`
        return { reason: 'scheme', message, host }
      }
      if (url.username !== '' || url.password !== '') {
        return { reason: 'credentials', message: 'The address holds a user name or password; credentials belong into a header.', host }
      }
      const port = portOf(url)
      if (isOpenPort(port)) return null
      return { reason: 'port', message: `Port ${port} of ${label} is not one that is asked; the operator can change that under [egress].`, host }
    },

    checkAddresses(url, addresses, label) {
      const byName = allowedHosts.has(nameOf(url))
      for (const address of addresses) {
        const kind = kindIfRefused(address, byName)
        if (kind === null) continue
        const message = `An address of ${label} is not public, and such are not fetched; the operator can allow it under [egress] allowPrivate.`
        return { reason: 'address', message, host: url.hostname, address, kind }
      }
      return null
    },
  }
}

/** The port that is connected to. */
export function portOf({ port, protocol }: URL): number {
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port)
}

/** The host without the brackets of an IPv6 address, and without the dot that says "this name is whole". */
export function nameOf({ hostname }: URL): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname.replace(/\.$/, '')
}

function parseEntry(entry: string): Block | string {
  const block = parseBlock(entry)
  if (block) return block
  const url = !/[*/?#@\\:\s[\]]/.test(entry) && URL.canParse(`http://${entry}`) ? new URL(`http://${entry}`) : null
  if (!url) throw new GatewayError('config_invalid', `allowPrivate: ${JSON.stringify(entry)} is no address, CIDR block or host name.`, { plugin: 'egress' })
  return parseBlock(nameOf(url)) ?? nameOf(url)
}
