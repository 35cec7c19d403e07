/** The sections of the config: the kernel's own (gateway, log), and what every plugin's takes. What is not implemented has no key here. */
import type { ConfigSection } from '../contract/kernel-service.ts'
import { type Static, type TSchema, t } from '../contract/schema.ts'
import { aliasesOf } from './aliases.ts'

const names = (description: string) => t.Array(t.String({ minLength: 1 }), { default: [], description })

const gateway = t.Object({
  host: t.String({ minLength: 1, default: '127.0.0.1', description: 'The address to listen on' }),
  port: t.Integer({ minimum: 0, maximum: 65_535, default: 4766, description: '0 = any free port' }),
  hosts: names('Names this gateway answers to in Host, with the port unless it is the scheme’s own; default 127.0.0.1, localhost and [::1]'),
  allowPublicBind: t.Boolean({ default: false, description: 'Allows a host that is not loopback' }),
  trustedProxies: names('Addresses or CIDR blocks whose forwarding header is believed'),
  tls: t.Optional(
    t.Object(
      {
        cert: t.String({ minLength: 1, description: 'PEM: the certificate, followed by those of its authorities' }),
        key: t.String({ minLength: 1, description: 'PEM: its private key, without a passphrase' }),
      },
      { description: 'Serves https: paths, relative to this file; a renewed pair is taken up by itself' },
    ),
  ),
  forwardedHeader: t.Enum(['x-forwarded-for', 'forwarded'], { default: 'x-forwarded-for', description: 'The one header that trusted proxies set' }),
  corsOrigins: names('Origins that browsers may call from; "*" = all'),
  httpBodyLimitBytes: t.Integer({
    minimum: 1_024,
    maximum: 1_073_741_824,
    default: 10_485_760,
    description: 'Bytes of a request body; a route may take less, and one that reads JSON takes 1 MB unless it says otherwise',
  }),
  allowQueryToken: t.Boolean({ default: false, description: 'Accepts ?token= on streams, sockets and media' }),
  maxStreams: t.Integer({ minimum: 1, maximum: 10_000, default: 64, description: 'Live event streams and sockets of one principal' }),
  shutdownDeadlineMs: t.Integer({ minimum: 0, maximum: 600_000, default: 10_000, description: 'ms that requests and model streams get to finish at the stop' }),
})
const log = t.Object({
  level: t.Enum(['debug', 'info', 'warn', 'error'], { default: 'info' }),
  format: t.Enum(['text', 'json'], { default: 'text' }),
  access: t.Boolean({ default: false, description: 'One line for each finished request' }),
})
const schemas = { gateway, log }

/** The values of the kernel's sections. */
export type KernelConfig = { readonly [Id in keyof typeof schemas]: Static<(typeof schemas)[Id]> }
/** `[gateway]`. */
export type GatewayConfig = KernelConfig['gateway']

/** The kernel's sections; `plugins` is a list beside them, not a section. */
export const kernelSections: readonly ConfigSection[] = Object.entries(schemas).map(([id, schema]) => ({ id, schema, aliases: [] }))

/** What every plugin's section takes besides its own keys; not handed to the plugin. */
const pluginKeys = {
  enabled: t.Boolean({ default: true, description: 'false = this plugin is not loaded' }),
  onFailure: t.Optional(t.Enum(['continue', 'abort'], { description: 'What its failure does to the gateway' })),
}

/** A plugin's section. */
export function pluginSection(id: string, schema: TSchema = t.Object({})): ConfigSection {
  return { id, schema: { ...schema, properties: { ...schema.properties, ...pluginKeys } }, aliases: aliasesOf(id) }
}
