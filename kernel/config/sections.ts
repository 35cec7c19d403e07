/** The kernel's own config sections: gateway, database, log. What is not implemented has no key here. */
import { type Static, secret, type TSchema, t } from '../contract/schema.ts'

/** A section of the config and what it may hold. Its id is a plugin's, or one of the kernel's. */
export interface ConfigSection {
  readonly id: string
  readonly schema: TSchema
}

const window = (summary: string) =>
  t.Object({
    windowMs: t.Integer({ minimum: 100, maximum: 86_400_000, default: 60_000, description: 'ms; the window slides' }),
    maxRequests: t.Integer({ minimum: 1, default: 100, description: summary }),
  })

const gateway = t.Object({
  host: t.String({ minLength: 1, default: '127.0.0.1', description: 'The address to listen on' }),
  port: t.Integer({ minimum: 0, maximum: 65_535, default: 4766, description: '0 = any free port' }),
  hosts: t.Array(t.String({ minLength: 1 }), {
    default: [],
    description: 'Names this gateway answers to in Host, with the port unless it is the scheme’s own; default 127.0.0.1, localhost and [::1]',
  }),
  allowPublicBind: t.Boolean({ default: false, description: 'Allows a host that is not loopback' }),
  trustedProxies: t.Array(t.String({ minLength: 1 }), { default: [], description: 'Addresses or CIDR blocks whose Forwarded headers are believed' }),
  corsOrigins: t.Array(t.String({ minLength: 1 }), { default: [], description: 'Origins that browsers may call from; "*" = all' }),
  rateLimit: t.Optional(window('Requests of one principal in the window')),
  addressRateLimit: t.Optional(window('Requests of one client address in the window')),
  httpBodyLimitBytes: t.Integer({ minimum: 1_024, maximum: 1_073_741_824, default: 10_485_760, description: 'Bytes of a request body; a route may take less' }),
  allowQueryToken: t.Boolean({ default: false, description: 'Accepts ?token= on streams, sockets and media' }),
  maxStreams: t.Integer({ minimum: 1, maximum: 10_000, default: 64, description: 'Live event streams and sockets of one principal' }),
  shutdownDeadlineMs: t.Integer({ minimum: 0, maximum: 600_000, default: 10_000, description: 'ms that requests and model streams get to finish at the stop' }),
})

const database = t.Object({
  url: t.Optional(secret({ minLength: 1, description: 'postgres://…; absent = the embedded database in the data folder' })),
})

const log = t.Object({
  level: t.Enum(['debug', 'info', 'warn', 'error'], { default: 'info' }),
  format: t.Enum(['text', 'json'], { default: 'text' }),
})

/** `[gateway]`. */
export type GatewayConfig = Static<typeof gateway>
/** `[database]`. */
export type DatabaseConfig = Static<typeof database>
/** `[log]`. */
export type LogConfig = Static<typeof log>

/** The kernel's sections; `plugins` is a list beside them, not a section. */
export const kernelSections: readonly ConfigSection[] = [
  { id: 'gateway', schema: gateway },
  { id: 'database', schema: database },
  { id: 'log', schema: log },
]

/** What every plugin's section takes besides its own keys. */
export const pluginKeys = t.Object({
  enabled: t.Boolean({ default: true, description: 'false = this plugin is not loaded' }),
  onFailure: t.Optional(t.Enum(['continue', 'abort'], { description: 'What its failure does to the gateway' })),
})

/** Ids of the kernel's sections. */
export const kernelIds: ReadonlySet<string> = new Set(kernelSections.map(({ id }) => id))

/** A section's schema with the keys that every plugin's section takes. */
export function wholeSchema({ id, schema }: ConfigSection): TSchema {
  if (kernelIds.has(id)) return schema
  const required = [...(pluginKeys.required ?? []), ...(schema.required ?? [])]
  return { ...schema, properties: { ...schema.properties, ...pluginKeys.properties }, required }
}
