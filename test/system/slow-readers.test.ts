/** Readers of `/api/events` that never read, on real connections: what they cost, how they are cut, and what they find when they come back. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { parsePrometheus } from '../fixtures/prometheus.ts'
import { readSse, type SseReader } from '../fixtures/sse-reader.ts'

const flood = fileURLToPath(new URL('../fixtures/plugins/flood.ts', import.meta.url))
const cap = 128
const config = `plugins = [${JSON.stringify(flood)}]\n[gateway]\nmaxStreams = ${cap}\n[provider-demo]\nenabled = false\n`
const stream = '/api/events?types=flood:*'
const [bytes, round, warmups] = [8_000, 1_000, 12]

describe.each(runtimes)('readers that never read, on %s', (runtime) => {
  let gateway: GatewayProcess
  let readersKey: string
  const sockets: Socket[] = []
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime, config })
    readersKey = await key('readers')
  }, 30_000)
  afterAll(async () => {
    for (const socket of sockets) socket.destroy()
    await gateway?.stop()
  }, 30_000)

  async function key(name: string): Promise<string> {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name }) }
    return ((await (await gateway.fetch('/api/keys', init)).json()) as { key: string }).key
  }
  const as = (token: string, more: Record<string, string> = {}) => ({ headers: { authorization: `Bearer ${token}`, ...more } })

  async function metrics() {
    const families = parsePrometheus(await (await gateway.fetch('/metrics')).text())
    const value = (name: string) => families.get(`portico_${name}`)?.samples[0]?.value ?? Number.NaN
    return { open: value('streams_events'), cut: value('bus_readers_cut_total'), waiting: value('bus_queue_bytes'), pending: value('bus_outbox_lag') }
  }
  async function until(what: string, ms: number, holds: (now: Awaited<ReturnType<typeof metrics>>) => boolean): Promise<void> {
    const deadline = performance.now() + ms
    for (;;) {
      const now = await metrics()
      if (holds(now)) return
      if (performance.now() > deadline) throw new Error(`${what} took more than ${ms} ms: ${JSON.stringify(now)}`)
      await Bun.sleep(50)
    }
  }

  async function rss(): Promise<number> {
    const families = parsePrometheus(await (await gateway.fetch('/metrics')).text())
    return families.get('process_resident_memory_bytes')?.samples[0]?.value ?? Number.NaN
  }

  async function pour(from: number, to: number): Promise<void> {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ from, to, bytes }) }
    const response = await gateway.fetch('/flood', init)
    if (!response.ok) throw new Error(await response.text())
  }

  /** Asks for the stream, and reads nothing. */
  async function stubborn(token: string): Promise<Socket> {
    const { hostname, port } = new URL(gateway.url)
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.pause()
    sockets.push(socket)
    await new Promise<void>((resolve) => {
      socket.write(`GET ${stream} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`, () => resolve())
    })
    return socket
  }

  /** A client that reads, and comes back when it is cut. */
  async function follow(token: string, since?: string) {
    const numbers: number[] = []
    let lastId = since
    let reader = await open()
    async function open() {
      const next = readSse(await fetch(new URL(stream, gateway.url), as(token, lastId ? { 'last-event-id': lastId } : {})))
      await next.waitFor('ready')
      return next
    }
    const take = (it: SseReader) => {
      numbers.push(...it.events.filter(({ event }) => event === 'flood:poured').map(({ data }) => JSON.parse(data).n as number))
      lastId = it.lastId
    }
    return {
      async until(last: number): Promise<number[]> {
        const deadline = performance.now() + 20_000
        while (performance.now() < deadline) {
          const found = await reader.waitFor('flood:poured', ({ data }) => JSON.parse(data).n === last, deadline - performance.now()).catch(() => null)
          take(reader)
          await reader.close()
          if (found) return numbers
          reader = await open()
        }
        throw new Error(`event ${last} did not come; the last was ${numbers.at(-1)}`)
      },
    }
  }

  /** What lies in the connection, to its end or its last byte: the numbers seen, and the last id. */
  async function drink(socket: Socket): Promise<{ numbers: number[]; lastId: string }> {
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    const over = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    socket.resume()
    await Promise.race([over, Bun.sleep(3_000)])
    const plain = dechunk(text)
    // A frame that was cut in the middle is none.
    const whole = plain.slice(0, plain.lastIndexOf('\n\n') + 2)
    return { numbers: [...whole.matchAll(/"n":(\d+)/g)].map((match) => Number(match[1])), lastId: [...whole.matchAll(/^id: ?(.*)$/gm)].at(-1)?.[1] ?? '' }
  }

  test('cost at most 1 MB of memory each, are cut, hold up nobody, and lose nothing when they come back', async () => {
    // As large as events alone make the process; what it gives back in between is luck.
    let before = 0
    for (let n = 0; n < warmups; n++) {
      await pour(n * round + 1, (n + 1) * round)
      await until('appending', 10_000, ({ pending }) => pending === 0)
      before = Math.max(before, await rss())
    }
    const asleep = await Promise.all(Array.from({ length: cap }, () => stubborn(readersKey)))
    await until('opening', 10_000, ({ open }) => open === cap)
    const reader = await follow(gateway.token)
    const at = warmups * round
    await pour(at + 1, at + round)
    await until('cutting', 20_000, ({ cut }) => cut >= cap)
    const cutAt = performance.now()
    // Whoever reads gets everything, in the meantime.
    expect(await reader.until(at + round)).toEqual(range(at + 1, at + round))
    expect((await metrics()).waiting).toBe(0)
    const grown = (await rss()) - before
    expect(grown).toBeLessThan(cap * 1_048_576)

    const another = () => fetch(new URL(stream, gateway.url), as(readersKey))
    if (runtime === 'bun') {
      await until('closing the connections of those that were cut', 5_000 - (performance.now() - cutAt), ({ open }) => open === 0)
      const next = await another()
      expect(next.status).toBe(200)
      await next.body?.cancel()
    } else {
      // Deno cannot close them: they count until they leave.
      const refused = await another()
      expect([refused.status, Number(refused.headers.get('retry-after')) > 0]).toEqual([429, true])
      expect(((await refused.json()) as { error: { code: string } }).error.code).toBe('rate_limit_exceeded')
      expect((await metrics()).open).toBe(cap)
    }

    const { numbers, lastId } = await drink(asleep[0] as Socket)
    expect(lastId).toMatch(/^\d+-\d+$/)
    expect(numbers).toEqual(range(at + 1, at + numbers.length))
    expect(numbers.length).toBeLessThan(round)
    for (const socket of asleep) socket.destroy()
    await until('their leaving', 5_000, ({ open }) => open <= 1)

    const back = await follow(readersKey, lastId)
    expect([...numbers, ...(await back.until(at + round))]).toEqual(range(at + 1, at + round))
    await until('the last leaving', 5_000, ({ open }) => open === 0)
  }, 60_000)
})

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** The body of a chunked answer, as far as it came. */
function dechunk(text: string): string {
  let at = text.indexOf('\r\n\r\n') + 4
  let body = ''
  for (;;) {
    const end = text.indexOf('\r\n', at)
    const size = end === -1 ? Number.NaN : Number.parseInt(text.slice(at, end), 16)
    if (!(size > 0)) return body
    body += text.slice(end + 2, end + 2 + size)
    at = end + 2 + size + 2
  }
}
