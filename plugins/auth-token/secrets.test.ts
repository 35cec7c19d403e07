import { describe, expect, test } from 'bun:test'
import { createVerifier, newSecret, parseKey } from './secrets.ts'

describe('a key', () => {
  test('has a public prefix and 256 bits of secret, of which only the Argon2id is kept', async () => {
    const { prefix, key, hash } = await newSecret()
    const parts = parseKey(key)
    expect(parts?.prefix).toBe(prefix)
    expect(Buffer.from(parts?.secret ?? '', 'base64url')).toHaveLength(32)
    expect(hash).toStartWith('$argon2id$v=19$')
    expect(hash).not.toContain(parts?.secret ?? '?')
  })

  test('keeps its prefix when it gets a new secret', async () => {
    const first = await newSecret()
    const second = await newSecret(first.prefix)
    expect(second.prefix).toBe(first.prefix)
    expect(second.key).not.toBe(first.key)
  })

  test.each(['', 'ptk_', 'ptk_0123456789ab_short', 'sk-proj-abc', `ptk_0123456789AB_${'a'.repeat(43)}`, `ptk_0123456789ab_${'a'.repeat(44)}`])(
    'has no other form: %p',
    (text) => {
      expect(parseKey(text)).toBeNull()
    },
  )
})

describe('verification', () => {
  test('is true for the secret and false for another', async () => {
    const { key, hash } = await newSecret()
    const { verify } = createVerifier()
    expect(await verify(hash, parseKey(key)?.secret ?? '')).toBe(true)
    expect(await verify(hash, 'x'.repeat(43))).toBe(false)
  })

  test('works on one secret at a time, and the same secret only once for all who present it', async () => {
    let now = 0
    let most = 0
    let calls = 0
    const { verify } = createVerifier({
      async check() {
        calls++
        most = Math.max(most, ++now)
        await new Promise((resolve) => setTimeout(resolve, 2))
        now--
        return true
      },
    })
    await Promise.all(['a', 'b', 'c', 'a', 'a', 'b'].map((secret) => verify('hash', secret)))
    expect({ most, calls }).toEqual({ most: 1, calls: 3 })
  })

  test('refuses with 429 and Retry-After when the queue is full, and recovers', async () => {
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const { verify } = createVerifier({ queue: 2, check: () => gate.then(() => true) })
    const waiting = ['a', 'b', 'c'].map((secret) => verify('hash', secret))
    expect(verify('hash', 'd')).rejects.toMatchObject({ code: 'rate_limit_exceeded', retryAfter: 1 })
    release()
    expect(await Promise.all(waiting)).toEqual([true, true, true])
    expect(await verify('hash', 'd')).toBe(true)
  })

  test('does not spend Argon2 twice on the same wrong key, and remembers a bounded number of them', async () => {
    let calls = 0
    const { verify } = createVerifier({ failures: 2, check: async () => calls++ < 0 })
    for (const secret of ['a', 'a', 'b', 'a', 'c']) await verify('hash', secret)
    expect(calls).toBe(3)
    await verify('hash', 'a')
    expect(calls).toBe(4)
  })

  test('takes at most half of the time and 40 secrets a second, and counts them', async () => {
    const begun: number[] = []
    const { verify, stats } = createVerifier({
      async check() {
        begun.push(performance.now())
        await new Promise((resolve) => setTimeout(resolve, begun.length === 1 ? 40 : 1))
        return true
      },
    })
    await Promise.all(['a', 'b', 'c'].map((secret) => verify('hash', secret)))
    const [first = 0, second = 0, third = 0] = begun
    expect(second - first).toBeGreaterThanOrEqual(78)
    expect(third - second).toBeGreaterThanOrEqual(24)
    expect(stats()).toEqual({ gauges: { auth_verifications_waiting: 0 }, counters: { auth_verifications: 3 } })
  })

  test('goes on after a check that threw', async () => {
    let first = true
    const { verify } = createVerifier({
      check: async () => {
        if (first) {
          first = false
          throw new Error('broken hash')
        }
        return true
      },
    })
    expect(verify('hash', 'a')).rejects.toThrow('broken hash')
    expect(await verify('hash', 'b')).toBe(true)
  })
})
