/** The form of a key, `ptk_<prefix>_<secret>`, and its Argon2id: one verification at a time behind a short queue. */
import { createHash, randomBytes } from 'node:crypto'
import { hash, verify } from '@node-rs/argon2'
import { GatewayError } from 'portico'

const form = /^ptk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/

/** A new key: 48 bits of public prefix, 256 bits of secret, and the Argon2id to store (19 MiB, two passes, the library's default). */
export async function newSecret(prefix: string = randomBytes(6).toString('hex')): Promise<{ prefix: string; key: string; hash: string }> {
  const secret = randomBytes(32).toString('base64url')
  return { prefix, key: `ptk_${prefix}_${secret}`, hash: await hash(secret) }
}

/** The parts of a presented key; null when it has not the form of one. */
export function parseKey(token: string): { prefix: string; secret: string } | null {
  const match = form.exec(token)
  return match?.[1] && match[2] ? { prefix: match[1], secret: match[2] } : null
}

/** Checks a secret against an Argon2id. Rejects with 429 when too many others wait. */
export type Verifier = (hash: string, secret: string) => Promise<boolean>

/** What a verifier takes beside its defaults. */
export interface VerifierOptions {
  /** How many may wait behind the one at work. */
  queue?: number
  /** How many failures are remembered, so that a repeated wrong key costs nothing. */
  failures?: number
  check?: (hash: string, secret: string) => Promise<boolean>
}

/** Makes a verifier. The same secret is never at work twice: those who present it meanwhile share the answer. */
export function createVerifier({ queue = 20, failures = 1_000, check = verify }: VerifierOptions = {}): Verifier {
  const atWork = new Map<string, Promise<boolean>>()
  const wrong = new Set<string>()
  let last: Promise<unknown> = Promise.resolve()

  return (stored, secret) => {
    const id = createHash('sha256').update(`${stored}\n${secret}`).digest('base64')
    if (wrong.has(id)) return Promise.resolve(false)
    const shared = atWork.get(id)
    if (shared !== undefined) return shared
    if (atWork.size > queue) {
      return Promise.reject(
        new GatewayError('rate_limit_exceeded', 'Too many keys are being verified at this moment: try again in a second.', { retryAfter: 1 }),
      )
    }
    const mine = last
      .then(() => check(stored, secret))
      .then((good) => {
        if (!good) remember(wrong, id, failures)
        return good
      })
    const settled = mine.finally(() => atWork.delete(id))
    last = settled.catch(() => undefined)
    atWork.set(id, settled)
    return settled
  }
}

function remember(set: Set<string>, id: string, limit: number): void {
  if (set.size >= limit)
    for (const oldest of set) {
      set.delete(oldest)
      break
    }
  set.add(id)
}
