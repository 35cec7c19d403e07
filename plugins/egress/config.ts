/** `[egress]`: what may be asked, and how much. */
import { type Static, t } from 'portico'

/**
 * Ports that are refused by default: those the Fetch standard blocks (§2.9, "bad ports"), because their services take an HTTP request's lines for commands, and
 * those of databases, queues, caches and machine control, which should face nobody and too often do.
 */
const blocked = [
  ...[0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135],
  ...[137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720],
  ...[1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080],
  ...[445, 873, 1433, 1521, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5672, 5900, 5985, 6379, 6380, 9042, 9092, 10250, 11211, 26379, 27017],
]

const port = t.Integer({ minimum: 0, maximum: 65_535 })
const ms = (preset: number, description: string) => t.Integer({ minimum: 100, maximum: 3_600_000, default: preset, description })

/** The section. */
export const egressConfig = t.Object({
  allowPrivate: t.Array(t.String({ minLength: 1 }), {
    default: [],
    description: 'Addresses, CIDR blocks and host names that may be asked although they are not public',
  }),
  httpsOnly: t.Boolean({ default: false, description: 'Refuses http' }),
  allowedPorts: t.Array(port, { default: [], description: 'If there are some: these only, and blockedPorts says nothing' }),
  blockedPorts: t.Array(port, {
    default: blocked,
    description: 'Never asked; default: what the Fetch standard blocks, and databases, queues, caches, machine control',
  }),
  maxRedirects: t.Integer({ minimum: 0, maximum: 20, default: 5, description: 'Redirects that are followed; 0 = none' }),
  timeoutMs: ms(30_000, 'ms for everything, to the end of the body'),
  connectTimeoutMs: ms(10_000, 'ms until there is a connection: name, TCP, TLS'),
  headTimeoutMs: ms(20_000, 'ms from the request’s last byte to the answer’s head'),
  maxBytes: t.Integer({ minimum: 1, default: 10_485_760, description: 'Bytes of an answer’s body, as sent and as decompressed' }),
  maxHeaderBytes: t.Integer({ minimum: 1_024, maximum: 1_048_576, default: 16_384, description: 'Bytes of an answer’s head' }),
  maxConcurrent: t.Integer({ minimum: 1, maximum: 10_000, default: 256, description: 'Calls under way at once; more get 429' }),
  maxConcurrentPerHost: t.Integer({ minimum: 1, maximum: 10_000, default: 32, description: 'The same, to one host' }),
})

/** What it holds. */
export type EgressConfig = Static<typeof egressConfig>
