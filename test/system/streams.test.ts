/** Proxied calls through the gateway as a real process: bytes, broken upstreams, clients that leave, and many at once. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { seeded } from '../fixtures/openai-wire.ts'
import { faults, startUpstream, type Upstream } from '../fixtures/upstream.ts'

/** One call over node:http, which sees what `fetch` hides and has no limit of its own. */
interface Call {
  readonly request: ClientRequest
  readonly head: Promise<IncomingMessage>
}

describe.each([...runtimes])('on %s', (runtime) => {
  let upstream: Upstream
  let other: Upstream
  let gateway: GatewayProcess
  const agent = new Agent({ keepAlive: false, maxSockets: Number.POSITIVE_INFINITY })

  beforeAll(async () => {
    ;[upstream, other] = await Promise.all([startUpstream(), startUpstream()])
    const provider = (name: string, url: string) => `[models.providers.${name}]\ntype = "openai-compatible"\nbaseUrl = "${url}"\n`
    gateway = await spawnGateway({ runtime, config: provider('local', upstream.url) + provider('other', other.url) })
  }, 240_000)
  beforeEach(() => {
    upstream.reset()
    other.reset()
  })
  afterAll(async () => {
    agent.destroy()
    await gateway?.stop()
    await Promise.all([upstream?.stop(), other?.stop()])
  })

  function call(body: object | string): Call {
    const text = typeof body === 'string' ? body : JSON.stringify({ model: 'local/m', messages: [{ role: 'user', content: 'one two three four' }], ...body })
    const headers = { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
    const sent = request(`${gateway.url}/v1/chat/completions`, { method: 'POST', agent, headers })
    const head = new Promise<IncomingMessage>((resolve, reject) => sent.once('response', resolve).once('error', reject))
    head.catch(() => undefined)
    sent.on('error', () => undefined)
    sent.end(text)
    return { request: sent, head }
  }

  /** The whole body, and whether it ended as HTTP says it should. */
  async function read(answer: IncomingMessage): Promise<{ text: string; isClean: boolean }> {
    const pieces: Buffer[] = []
    try {
      for await (const piece of answer) pieces.push(piece)
    } catch {
      return { text: Buffer.concat(pieces).toString(), isClean: false }
    }
    return { text: Buffer.concat(pieces).toString(), isClean: answer.complete }
  }

  async function readUntil(answer: IncomingMessage, part: string): Promise<void> {
    let text = ''
    await new Promise<void>((resolve, reject) => {
      answer.on('data', (piece: Buffer) => {
        text += piece.toString()
        if (text.includes(part)) resolve()
      })
      answer.once('error', reject).once('end', () => reject(new Error(`ended without ${part}: ${text}`)))
    })
  }

  test('bytes pass as they are, in both directions', async () => {
    const body = '{"stream" :true,"messages":[{"role":"user","content":"\\u00e9 ü 😀"}], "model":\t"local/m","seed":12345678901234567890 }'
    const frames = [': hi\r\n\r\n', 'data: {"a":"ü😀","b":[1.0]}\n\n', 'event: x\ndata: 1\ndata: 2\n\n', 'data:[DONE]\n\n', ': bye']
    const bytes = Buffer.from(frames.join(''))
    const random = seeded(3)
    upstream.script(async (_, answer) => {
      answer.writeHead(200, { 'content-type': 'text/event-stream', 'x-ratelimit-limit-tokens': '7' })
      for (let at = 0; at < bytes.length; ) {
        const size = 1 + Math.floor(random() * 9)
        answer.write(bytes.subarray(at, at + size))
        await new Promise((resolve) => setImmediate(resolve))
        at += size
      }
      answer.end()
    })
    const answer = await call(body).head
    expect(await read(answer)).toEqual({ text: frames.join(''), isClean: true })
    expect(answer.headers).toMatchObject({ 'content-type': 'text/event-stream', 'x-ratelimit-limit-tokens': '7' })
    expect((await upstream.waitForRequest()).text).toBe(body.replace('local/m', 'm'))
  })

  test('a stream that breaks ends in an error frame and no [DONE], wherever it breaks', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const at = seed % 7
      upstream.script({ ...(seed % 2 ? { dieAfter: at } : { truncateAfter: at }), midFrame: seed % 3 > 0, splitSeed: seed })
      const { text, isClean } = await read(await call({ stream: true }).head)
      expect(isClean).toBe(true)
      expect(text).not.toContain('[DONE]')
      const last = text.split('\n\n').filter(Boolean).at(-1) ?? ''
      expect(JSON.parse(last.replace('data: ', ''))).toMatchObject({ error: { code: 'upstream_error' } })
    }
  })

  test('an answer that is not streamed and breaks has a broken body', async () => {
    for (const answer of ['x', 'x'.repeat(2_000_000)]) {
      for (const behaviour of [{ dieAfter: 0 }, { truncateAfter: 0 }]) {
        upstream.script({ ...behaviour, answer })
        const outcome = await call({}).head.then(read, () => ({ text: '', isClean: false }))
        expect(outcome.isClean).toBe(false)
      }
    }
  })

  test('a client that leaves aborts the upstream within 100 ms, before the head and in the middle', async () => {
    for (const hang of ['head', { frames: 2 }] as const) {
      upstream.reset()
      upstream.script({ hang })
      const { request: sent, head } = call({ stream: true })
      await upstream.waitForRequest()
      if (hang !== 'head') await readUntil(await head, 'two'.slice(0, 1))
      const at = performance.now()
      sent.destroy()
      const { abortedAt = Number.POSITIVE_INFINITY } = await upstream.waitForAbort()
      expect(abortedAt - at).toBeLessThan(100)
    }
    await upstream.idle()
  })

  test('512 streams at once to one upstream do not wait for each other', async () => {
    upstream.script({ hang: { frames: 2 } }, { times: Number.POSITIVE_INFINITY })
    const began = performance.now()
    const calls = Array.from({ length: 512 }, () => call({ stream: true }))
    await Promise.all(calls.map(async ({ head }) => readUntil(await head, 'data: ')))
    // All are open at once: none waited for another's end.
    expect(upstream.open).toBe(512)
    expect(performance.now() - began).toBeLessThan(5_000)
    for (const { request: sent } of calls) sent.destroy()
    await upstream.idle()
  })

  test('256 hung calls to one upstream do not starve another', async () => {
    upstream.script(faults.silent, { times: Number.POSITIVE_INFINITY })
    const hung = Array.from({ length: 256 }, () => call({}))
    while (upstream.open < 256) await upstream.waitForRequest()
    const began = performance.now()
    for (let n = 0; n < 20; n++) expect(await read(await call({ model: 'other/m' }).head)).toMatchObject({ isClean: true })
    expect(performance.now() - began).toBeLessThan(2_000)
    expect(upstream.open).toBe(256)
    for (const { request: sent } of hung) sent.destroy()
    await upstream.idle()
  })
})
