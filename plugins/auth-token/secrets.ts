/** The form of a key, `ptk_<prefix>_<secret>`, and its Argon2id: one verification at a time behind a short queue. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { GatewayError, type KernelStats } from 'portico'

const form = /^ptk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/

/** Loaded when first needed: a start has other things to do. */
const argon2 = () => import('@node-rs/argon2')

/** A new key: 48 bits of public prefix, 256 bits of secret, and the Argon2id to store (19 MiB, two passes, the library's default). */
export async function newSecret(prefix: string = randomBytes(6).toString('hex')): Promise<{ prefix: string; key: string; hash: string }> {
  const secret = randomBytes(32).toString('base64url')
  return { prefix, key: `ptk_${prefix}_${secret}`, hash: await (await argon2()).hash(secret) }
}

/** The parts of a presented key; null when it has not the form of one. */
export function parseKey(token: string): { prefix: string; secret: string } | null {
  const match = form.exec(token)
  return match?.[1] && match[2] ? { prefix: match[1], secret: match[2] } : null
}

/** Checks secrets against Argon2ids, at most half of the time and 40 a second. */
export interface Verifier {
  /** Rejects with 429 when too many others wait. */
  verify(hash: string, secret: string): Promise<boolean>
  /** Throws that 429 when there is no room for another one. */
  assertRoom(): void
  /** Of all verifications so far, and of those that wait. */
  stats(): KernelStats
}

/** What a verifier takes beside its defaults. */
export interface VerifierOptions {
  /** How many may wait behind the one at work. */
  queue?: number
  /** How many failures are remembered, so that a repeated wrong key costs nothing. */
  failures?: number
  check?: (hash: string, secret: string) => Promise<boolean>
}

/** ms from the start of one verification to that of the next, at least. */
const shortestInterval = 25

/**
 * Makes a verifier. The same secret is never at work twice: those who present it meanwhile share the answer. After each it rests for as long as it worked: a
 * flood of wrong keys leaves half of a core to all else.
 */
export function createVerifier({
  queue = 20,
  failures = 1_000,
  check = async (stored, secret) => (await argon2()).verify(stored, secret),
}: VerifierOptions = {}): Verifier {
  const atWork = new Map<string, Promise<boolean>>()
  const wrong = new Set<string>()
  let last: Promise<unknown> = Promise.resolve()
  let total = 0

  async function work(stored: string, secret: string): Promise<{ good: boolean; rest: number }> {
    total++
    const begun = performance.now()
    const good = await check(stored, secret)
    const took = performance.now() - begun
    return { good, rest: Math.max(took, shortestInterval - took) }
  }

  function assertRoom(): void {
    if (atWork.size > queue)
      throw new GatewayError('rate_limit_exceeded', 'Too many keys are being verified at this moment: try again in a second.', { retryAfter: 1 })
  }

  return {
    assertRoom,
    async verify(stored, secret) {
      const id = createHash('sha256').update(`${stored}\n${secret}`).digest('base64')
      if (wrong.has(id)) return false
      const shared = atWork.get(id)
      if (shared !== undefined) return shared
      assertRoom()
      const working = last.then(() => work(stored, secret))
      last = working.then(
        ({ rest }) => pause(rest),
        () => {},
      )
      const mine = working
        .then(({ good }) => {
          if (!good) remember(wrong, id, failures)
          return good
        })
        .finally(() => atWork.delete(id))
      atWork.set(id, mine)
      return mine
    },
    stats: () => ({ gauges: { auth_verifications_waiting: Math.max(0, atWork.size - 1) }, counters: { auth_verifications: total } }),
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
