import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:net'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { type Origin, outcomeOf, startOrigin, testEgress } from '../../test/fixtures/egress.ts'

const origins: Origin[] = []
const start = async (answer: (request: IncomingMessage, response: ServerResponse) => void, options: { secure?: boolean } = {}) => {
  const origin = await startOrigin(answer, options)
  origins.push(origin)
  return origin
}
afterAll(() => Promise.all(origins.map((origin) => origin.stop())))

/** A server that answers a connection's first bytes with these. */
const raws: Server[] = []
async function startRaw(bytes: string | Buffer, end = true): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => (end ? socket.end(bytes, 'latin1') : socket.write(bytes, 'latin1')))
  })
  raws.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as { port: number }).port}/`
}
afterEach(() => {
  for (const server of raws.splice(0)) server.close()
})

const allowPrivate = ['127.0.0.0/8']
const until = async (isTrue: () => boolean, ms = 2_000) => {
  for (const end = performance.now() + ms; !isTrue() && performance.now() < end; ) await Bun.sleep(2)
  expect(isTrue()).toBe(true)
}
const failure = (work: Promise<unknown>): Promise<any> =>
  work.then(
    () => null,
    (error) => error,
  )

describe('a request', () => {
  const echo = start((request, response) => {
    let body = ''
    const { method, url, headers } = request
    const answer = () => response.setHeader('set-cookie', ['a=1', 'b=2']).writeHead(201, 'Made').end(JSON.stringify({ method, url, headers, body }))
    request.setEncoding('utf8').on('data', (chunk) => {
      body += chunk
    })
    request.on('end', answer)
  })

  test('goes out as it was given, and its answer comes back', async () => {
    const { url, port } = await echo
    const { fetch } = testEgress({ allowPrivate }, { 'some.example': ['127.0.0.1'] })
    const response = await fetch(`http://some.example:${port}/path?q=1#fragment`, {
      method: 'post',
      headers: { 'X-A': '1', 'content-type': 'text/plain' },
      body: 'größe',
    })
    expect([response.status, response.statusText, response.headers.getSetCookie(), response.redirected]).toEqual([201, 'Made', ['a=1', 'b=2'], false])
    expect(response.url).toBe(`http://some.example:${port}/path?q=1#fragment`)
    const { method, url: path, headers, body } = (await response.json()) as any
    expect([method, path, body]).toEqual(['POST', '/path?q=1', 'größe'])
    expect(headers).toEqual({
      ...{ accept: '*/*', 'accept-encoding': 'gzip, deflate, br', 'user-agent': 'portico', 'content-type': 'text/plain', 'x-a': '1' },
      ...{ 'content-length': '7', host: `some.example:${port}`, connection: 'close' },
    })
    const bare = (await (await fetch(new URL(url), { method: 'POST' })).json()) as any
    expect(bare.headers['content-length']).toBe('0')
  })

  test('may have a stream for a body, with any method', async () => {
    const { url } = await echo
    const { fetch } = testEgress({ allowPrivate })
    const stream = () => new Blob(['one ', 'two']).stream()
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const { headers, body } = (await (await fetch(url, { method, body: stream() })).json()) as any
      expect([method, body, headers['transfer-encoding'], headers['content-length']]).toEqual([method, 'one two', 'chunked', undefined])
    }
  })

  test('whose body fails is over, and fails', async () => {
    const { url, connections } = await echo
    const { fetch } = testEgress({ allowPrivate })
    const broken = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(new Error('mine')) })
    const error = await failure(fetch(url, { method: 'POST', body: broken }))
    expect([error.code, error.message, error.cause.message]).toEqual(['invalid_request', 'The body of the request broke off before its end.', 'mine'])
    await until(() => connections.open === 0)
  })

  test('that is refused wants no body: a stream is cancelled', async () => {
    let cancelled = 0
    const stream = () => new ReadableStream<Uint8Array>({ cancel: () => void cancelled++ })
    const { fetch } = testEgress()
    for (const url of ['http://127.0.0.1/', 'no url', 'http://none.example/']) await failure(fetch(url, { method: 'POST', body: stream() }))
    expect(cancelled).toBe(3)
  })

  test('of HEAD has no body, nor do answers that say so', async () => {
    const { url } = await start((request, response) => response.writeHead(Number(request.url?.slice(1)), { 'content-encoding': 'gzip' }).end())
    const { fetch } = testEgress({ allowPrivate })
    for (const status of [204, 205, 304]) {
      const response = await fetch(`${url}/${status}`)
      expect([response.status, response.body]).toEqual([status, null])
    }
    const head = await fetch(`${url}/200`, { method: 'HEAD' })
    expect([head.status, head.body, head.headers.get('content-encoding')]).toEqual([200, null, 'gzip'])
  })
})

describe('the address that was checked', () => {
  test('is the one that is connected to: the name is looked up once, whatever it says the next time', async () => {
    const inside = await start((_, response) => response.end('inside'))
    let asked = 0
    // Public when it is checked, loopback for whoever asks again.
    const rebinding = () => (asked++ === 0 ? ['203.0.113.9'] : ['127.0.0.1'])
    const { fetch, lookups } = testEgress({ allowPrivate: ['203.0.113.0/24'], connectTimeoutMs: 300 }, { 'rebind.example': rebinding })
    // Nobody is there: it is tried, and nothing else is.
    expect((await failure(fetch(`http://rebind.example:${inside.port}/`))).code).toMatch(/^upstream_(timeout|error)$/)
    expect([lookups, asked, inside.connections.made]).toEqual([['rebind.example'], 1, 0])
    expect((await failure(fetch(`http://rebind.example:${inside.port}/`))).code).toBe('address_not_allowed')
    expect(inside.connections.made).toBe(0)
  })

  test('is one of several, all of them checked: the next is tried when one does not answer', async () => {
    const { port } = await start((_, response) => response.end('second'))
    const { fetch } = testEgress({ allowPrivate }, { 'two.example': ['127.0.0.9', '127.0.0.1'] })
    expect(await (await fetch(`http://two.example:${port}/`)).text()).toBe('second')
  })

  test('is not replaced by a proxy of the environment', async () => {
    const proxy = await start((_, response) => response.end('proxy'))
    const before = { ...process.env }
    Object.assign(process.env, { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: proxy.url, http_proxy: proxy.url, ALL_PROXY: proxy.url })
    try {
      const { port } = await start((_, response) => response.end('itself'))
      const { fetch } = testEgress({ allowPrivate }, { 'some.example': ['127.0.0.1'] })
      expect(await (await fetch(`http://some.example:${port}/`)).text()).toBe('itself')
      expect(proxy.connections.made).toBe(0)
    } finally {
      for (const name of ['NODE_USE_ENV_PROXY', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY']) {
        if (before[name] === undefined) delete process.env[name]
        else process.env[name] = before[name]
      }
    }
  })

  test('a name that is not found, or that has no address', async () => {
    const { fetch, check } = testEgress({}, { 'empty.example': [] })
    for (const name of ['none.example', 'empty.example'])
      for (const asked of [fetch(`http://${name}/`), check(`http://${name}/`)]) {
        const error = await failure(asked)
        expect([error.code, error.message]).toEqual(['upstream_error', `No address was found for the host "${name}"; look at how it is spelled.`])
      }
  })

  test('check says whether an address may be asked, and asks it nothing', async () => {
    const { url, connections } = await start((_, response) => response.end())
    expect(await testEgress({ allowPrivate }).check(url)).toBeUndefined()
    expect(await testEgress({}, { 'public.example': ['8.8.8.8', '2606:4700::1'] }).check('https://public.example/x')).toBeUndefined()
    expect((await failure(testEgress().check(url))).code).toBe('address_not_allowed')
    expect(connections.made).toBe(0)
  })
})

describe('TLS', () => {
  const names = { 'secure.example': ['127.0.0.1'], 'other.example': ['127.0.0.1'] }
  const secure = start((request, response) => response.end(`for ${request.headers.host}`), { secure: true })

  test('the certificate is checked against the name, though the connection goes to the address', async () => {
    const { port } = await secure
    const { fetch } = testEgress({ allowPrivate }, names)
    expect(await (await fetch(`https://secure.example:${port}/`)).text()).toBe(`for secure.example:${port}`)
    expect((await fetch(`https://secure.example.:${port}/`)).status).toBe(200)
    expect((await fetch(`https://127.0.0.1:${port}/`)).status).toBe(200)
  })

  test('a certificate for another name, or none at all, is an upstream’s error; nothing was sent', async () => {
    const { port, requests } = await secure
    const plain = await start((_, response) => response.end())
    const before = requests.length
    const { fetch } = testEgress({ allowPrivate }, names)
    for (const url of [`https://other.example:${port}/`, `https://secure.example:${plain.port}/`])
      expect(String(await failure(fetch(url)))).toMatch(/has no certificate that is valid for its name/)
    expect((await failure(fetch(`http://secure.example:${port}/`))).code).toBe('upstream_error')
    expect(requests).toHaveLength(before)
  })

  test('the environment cannot switch the check off', async () => {
    const { port } = await secure
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    try {
      expect((await failure(testEgress({ allowPrivate }, names).fetch(`https://other.example:${port}/`))).code).toBe('upstream_error')
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    }
  })
})

describe('redirects', () => {
  const hops = start((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
    const count = Number(/^\/hop\/(\d+)$/.exec(pathname)?.[1] ?? 0)
    if (count > 0) return void response.writeHead(302, { location: `/hop/${count - 1}` }).end('moved')
    const to = searchParams.get('to')
    if (to) return void response.writeHead(Number(searchParams.get('status') ?? 302), { location: to }).end()
    request.pipe(response)
  })
  const to = (url: string, target: string, status = 302) => `${url}/?status=${status}&to=${encodeURIComponent(target)}`

  test('are followed five times, each with a connection of its own that is left', async () => {
    const { url, connections } = await hops
    const egress = testEgress({ allowPrivate })
    const response = await egress.fetch(`${url}/hop/5`)
    expect([response.status, response.url, response.redirected]).toEqual([200, `${url}/hop/0`, true])
    await response.text()
    const error = await failure(egress.fetch(`${url}/hop/6`))
    expect([error.code, error.message]).toEqual(['upstream_error', 'The server redirects more than 5 times.'])
    expect(egress.refusals.map(({ reason }) => reason)).toEqual(['redirects'])
    await until(() => connections.open === 0)
  })

  test('or as often as the call says; with 0 the redirecting answer itself is returned', async () => {
    const { url } = await hops
    const { fetch } = testEgress({ allowPrivate })
    const asItIs = await fetch(`${url}/hop/1`, { maxRedirects: 0 })
    expect([asItIs.status, asItIs.headers.get('location'), await asItIs.text()]).toEqual([302, '/hop/0', 'moved'])
    expect((await failure(fetch(`${url}/hop/2`, { maxRedirects: 1 }))).message).toContain('more than 1 time')
    expect((await fetch(`${url}/hop/8`, { maxRedirects: 8 })).status).toBe(200)
  })

  test.each([
    ['metadata', 'http://169.254.169.254/latest/', 'address'],
    ['loopback in other words', 'http://2130706433:9/', 'port'],
    ['an internal name', 'http://db.internal/', 'address'],
    ['a file', 'file:///etc/passwd', 'scheme'],
    ['a password', 'http://u:p@127.0.0.1/', 'credentials'],
  ])('to %s are refused, and the caller is not told where they led', async (_, target, reason) => {
    const { url } = await hops
    const egress = testEgress({ allowPrivate }, { 'db.internal': ['10.0.0.1'] })
    const error = await failure(egress.fetch(to(url, target)))
    expect(error.code).toBe('address_not_allowed')
    expect(error.message).not.toMatch(/169|2130706433|db\.internal|10\.0|passwd/)
    expect(egress.refusals.map((refusal) => refusal.reason)).toEqual([reason as 'port'])
  })

  test('to a name that changes what it resolves to are judged anew', async () => {
    const { port } = await hops
    let asked = 0
    const egress = testEgress({ allowPrivate: ['127.0.0.1'] }, { 'x.example': () => (asked++ === 0 ? ['127.0.0.1'] : ['10.0.0.1']) })
    expect((await failure(egress.fetch(`http://x.example:${port}/hop/1`))).code).toBe('address_not_allowed')
  })

  test('from https to http are refused', async () => {
    const plain = await hops
    const secure = await start((_, response) => response.writeHead(302, { location: `${plain.url}/` }).end(), { secure: true })
    const egress = testEgress({ allowPrivate })
    expect((await failure(egress.fetch(secure.url))).code).toBe('address_not_allowed')
    expect(egress.refusals[0]?.reason).toBe('downgrade')
  })

  test('take the body along where the method stays, and no credential to another origin', async () => {
    const { url, requests } = await hops
    const other = await start((request, response) => request.pipe(response))
    const { fetch } = testEgress({ allowPrivate })
    const init = { method: 'POST', body: 'again', headers: { authorization: 'Bearer x', cookie: 'a=b', 'x-api-key': 'k' } }
    const kept = await fetch(to(url, '/here', 307), init)
    expect([await kept.text(), requests.at(-1)?.headers.authorization]).toEqual(['again', 'Bearer x'])
    expect(await (await fetch(to(url, `${other.url}/there`, 308), init)).text()).toBe('again')
    const { headers } = other.requests[0]!
    expect([headers.authorization, headers.cookie, headers['x-api-key'], headers.host]).toEqual([undefined, undefined, undefined, `127.0.0.1:${other.port}`])
    const changed = await fetch(to(url, '/here', 303), init)
    expect([await changed.text(), requests.at(-1)?.line]).toEqual(['', 'GET /here'])
  })
})

describe('the size of an answer', () => {
  const maxBytes = 100_000
  const config = { allowPrivate, maxBytes }

  test('is refused at its head when it says so, and while it comes when it does not', async () => {
    const { url, connections } = await start((request, response) => {
      if (request.url === '/announced') response.setHeader('content-length', maxBytes + 1)
      response.write('x')
      response.end(Buffer.alloc(maxBytes - (request.url === '/just' ? 1 : 0)))
    })
    const egress = testEgress(config)
    expect((await failure(egress.fetch(`${url}/announced`))).message).toContain('longer than 100000 bytes')
    const response = await egress.fetch(`${url}/streamed`)
    expect((await failure(response.arrayBuffer())).message).toContain('longer than 100000 bytes')
    expect((await (await egress.fetch(`${url}/just`)).arrayBuffer()).byteLength).toBe(maxBytes)
    expect((await (await egress.fetch(`${url}/announced`, { maxBytes: maxBytes + 1 })).arrayBuffer()).byteLength).toBe(maxBytes + 1)
    expect(egress.refusals.map(({ reason }) => reason)).toEqual(['size', 'size'])
    await until(() => connections.open === 0)
  })

  const codings = { gzip: gzipSync, 'x-gzip': gzipSync, deflate: deflateSync, 'deflate, bare': deflateRawSync, br: brotliCompressSync }
  test.each(Object.entries(codings))('%s is undone, and counted as what it becomes', async (name, compress) => {
    const [coding = ''] = name.split(',')
    const bodies: Record<string, Buffer> = {
      '/good': compress('hello '.repeat(1_000)),
      '/bomb': compress(Buffer.alloc(50_000_000)),
      '/cut': compress('hello'.repeat(100)).subarray(0, -6),
    }
    const { url, connections } = await start((request, response) => response.writeHead(200, { 'content-encoding': coding }).end(bodies[request.url ?? '']))
    const egress = testEgress(config)
    const good = await egress.fetch(`${url}/good`)
    expect(await good.text()).toBe('hello '.repeat(1_000))
    expect([good.headers.get('content-encoding'), good.headers.get('content-length')]).toEqual([null, null])

    const before = process.memoryUsage().rss
    const bomb = await egress.fetch(`${url}/bomb`)
    let got = 0
    const error = await failure(
      (async () => {
        for await (const piece of bomb.body ?? []) got += piece.byteLength
      })(),
    )
    expect([error.code, error.message]).toEqual(['upstream_error', expect.stringContaining('longer than 100000 bytes')])
    expect(got).toBeLessThanOrEqual(maxBytes)
    expect(process.memoryUsage().rss - before).toBeLessThan(40_000_000)

    expect((await failure((await egress.fetch(`${url}/cut`)).text())).message).toContain('broke off')
    await until(() => connections.open === 0)
  })

  test('counts what comes in, too: a stream of nothing, compressed, is long', async () => {
    const nothing = Buffer.from([0, 0, 0, 0xff, 0xff])
    const { url } = await start((_, response) => response.writeHead(200, { 'content-encoding': 'deflate' }).end(Buffer.concat(Array(30_000).fill(nothing))))
    expect((await failure((await testEgress(config).fetch(url)).text())).message).toContain('longer than 100000 bytes')
  })

  test('an empty body may call itself compressed; codings nobody asked for are refused', async () => {
    const { url } = await start((request, response) => response.writeHead(200, { 'content-encoding': decodeURIComponent(request.url?.slice(1) ?? '') }).end(''))
    const { fetch } = testEgress(config)
    for (const coding of ['gzip', 'identity', 'GZIP']) expect(await (await fetch(`${url}/${coding}`)).text()).toBe('')
    for (const coding of ['zstd', 'gzip, gzip', 'gzip, br', 'compress'])
      expect((await failure(fetch(`${url}/${encodeURIComponent(coding)}`))).message).toContain('nobody asked for')
  })

  test('a head over its limit is refused', async () => {
    const { url } = await start((_, response) => response.writeHead(200, { 'x-long': 'x'.repeat(5_000) }).end('ok'))
    expect((await failure(testEgress({ allowPrivate, maxHeaderBytes: 4_096 }).fetch(url))).message).toContain('over the limit')
    expect((await testEgress({ allowPrivate }).fetch(url)).status).toBe(200)
  })
})

describe('an answer that is none', () => {
  const config = { allowPrivate, timeoutMs: 2_000 }
  test.each([
    ['garbage', 'SSH-2.0-OpenSSH_9.9\r\n\r\n', 'is not HTTP'],
    ['nothing', '', 'broke off before its answer'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc', 'is not HTTP'],
    ['a length and chunks', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n', 'is not HTTP'],
    ['a status nobody knows', 'HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n', 'does not know'],
    ['an upgrade', 'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello', 'broke off before its answer'],
    ['promises without end', 'HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n'.repeat(50), 'broke off before its answer'],
  ])('at its head: %s', async (_, bytes, said) => {
    const error = await failure(testEgress(config).fetch(await startRaw(bytes)))
    expect([error.code, error.message]).toEqual(['upstream_error', expect.stringContaining(said)])
  })

  test.each([
    ['shorter than it says', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc'],
    ['a chunk cut in the middle', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel'],
    ['chunks without their end', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n'],
    ['a chunk that is none', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n'],
    ['no gzip', 'HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello'],
  ])('in its body: %s', async (_, bytes) => {
    const error = await failure((async () => (await testEgress(config).fetch(await startRaw(bytes))).text())())
    expect([error.code, error.message]).toEqual(['upstream_error', expect.stringContaining('broke off, or is not what it says')])
  })

  test('what comes before or after a whole one is no harm', async () => {
    const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
    for (const bytes of [`${answer}EXTRA`, `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n${answer}`, 'HTTP/1.0 200 OK\r\n\r\nok'])
      expect(await (await testEgress(config).fetch(await startRaw(bytes))).text()).toBe('ok')
  })
})

describe('time', () => {
  const late = async (work: Promise<unknown>) => {
    const began = performance.now()
    const error = await failure(work)
    expect(error?.code).toBe('upstream_timeout')
    return { ms: performance.now() - began, message: error.message as string }
  }

  test('for the whole, for the connection, and for the head, whichever is over first', async () => {
    const { url, port, connections } = await start((request, response) => {
      if (request.url === '/slow') response.write('a')
    })
    const egress = (config: object) => testEgress({ allowPrivate, ...config }, { 'slow.example': () => new Promise(() => {}), 'some.example': ['127.0.0.1'] })
    const head = await late(egress({ headTimeoutMs: 200 }).fetch(url))
    expect(head.message).toContain('did not answer within 200 ms')
    const whole = await late(egress({ timeoutMs: 200 }).fetch(url))
    expect(whole.message).toContain('not complete within 200 ms')
    const name = await late(egress({ connectTimeoutMs: 200 }).fetch('http://slow.example/'))
    expect(name.message).toContain('no connection to the host "slow.example" within 200 ms')
    expect((await late(egress({ connectTimeoutMs: 200 }).check('http://slow.example/'))).message).toContain('within 200 ms')
    const body = await late((async () => (await egress({ timeoutMs: 200 }).fetch(`${url}/slow`)).text())())
    expect(body.message).toContain('not complete within 200 ms')
    const called = await late(egress({}).fetch(`http://some.example:${port}/`, { headTimeoutMs: 150 }))
    expect(called.message).toContain('within 150 ms')
    for (const { ms } of [head, whole, name, body, called]) expect(ms).toBeLessThan(1_000)
    await until(() => connections.open === 0)
  })

  test('for the handshake counts as for the connection', async () => {
    const url = (await startRaw('', false)).replace('http:', 'https:')
    expect((await late(testEgress({ allowPrivate, connectTimeoutMs: 200 }).fetch(url))).message).toContain('no connection')
  })

  test('for the head begins when the request is sent, not while its body still is', async () => {
    const { url } = await start((request, response) => {
      request.resume().on('end', () => response.end('ok'))
    })
    let pieces = 0
    const slow = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await Bun.sleep(100)
        if (++pieces > 6) controller.close()
        else controller.enqueue(new Uint8Array(10))
      },
    })
    expect((await testEgress({ allowPrivate, headTimeoutMs: 300 }).fetch(url, { method: 'POST', body: slow })).status).toBe(200)
  })

  test('for the head is over with it, though the request’s body still goes out', async () => {
    const { url } = await start((request, response) => {
      response.write('early')
      request.resume().on('end', () => void setTimeout(() => response.end(' late'), 500))
    })
    const slow = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(new Uint8Array(10))
        await Bun.sleep(200)
        controller.close()
      },
    })
    const response = await testEgress({ allowPrivate, headTimeoutMs: 150 }).fetch(url, { method: 'POST', body: slow })
    expect(await response.text()).toBe('early late')
  })

  test('that a call lifts does not run', async () => {
    const { url } = await start((_, response) => void setTimeout(() => response.end('ok'), 400))
    const { fetch } = testEgress({ allowPrivate, timeoutMs: 100, headTimeoutMs: 100 })
    expect(await (await fetch(url, { timeoutMs: Number.POSITIVE_INFINITY, headTimeoutMs: 5_000 })).text()).toBe('ok')
  })
})

describe('an end', () => {
  const big = start((request, response) => {
    if (request.url === '/hang') return
    const chunk = Buffer.alloc(65_536)
    const write = () => {
      while (!response.destroyed) if (!response.write(chunk)) return void response.once('drain', write)
    }
    write()
  })
  const unlimited = { maxBytes: Number.POSITIVE_INFINITY }
  const within100ms = async (what: () => void, isTrue: () => boolean) => {
    const began = performance.now()
    what()
    await until(isTrue)
    expect(performance.now() - began).toBeLessThan(100)
  }

  test('by the caller before the head reaches the server at once', async () => {
    const { url, connections } = await big
    const abort = new AbortController()
    const asked = failure(testEgress({ allowPrivate }).fetch(`${url}/hang`, { signal: abort.signal }))
    await until(() => connections.open === 1)
    const reason = new Error('enough')
    await within100ms(
      () => abort.abort(reason),
      () => connections.open === 0,
    )
    expect(await asked).toBe(reason)
  })

  test('by the caller in the middle of the body reaches the server and whoever reads', async () => {
    const { url, connections } = await big
    const abort = new AbortController()
    const response = await testEgress({ allowPrivate }).fetch(url, { signal: abort.signal, ...unlimited })
    const reader = response.body!.getReader()
    expect((await reader.read()).value?.byteLength).toBeGreaterThan(0)
    const reason = new Error('enough')
    await within100ms(
      () => abort.abort(reason),
      () => connections.open === 0,
    )
    expect(await failure(reader.read())).toBe(reason)
  })

  test('by a reader that cancels reaches the server, whether it ever read or not, compressed or not', async () => {
    const { url, connections } = await big
    const packed = await start((_, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).write(gzipSync(Buffer.alloc(10_000_000))))
    for (const origin of [{ url, connections }, packed])
      for (const reads of [0, 1]) {
        const response = await testEgress({ allowPrivate }).fetch(origin.url, unlimited)
        const reader = response.body!.getReader()
        for (let n = 0; n < reads; n++) await reader.read()
        await within100ms(
          () => void reader.cancel(),
          () => origin.connections.open === 0,
        )
      }
  })

  test('by the caller while the request’s body is sent cancels that', async () => {
    const { url, connections } = await big
    const abort = new AbortController()
    let cancelled = false
    const endless = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await Bun.sleep(5)
        controller.enqueue(new Uint8Array(10))
      },
      cancel() {
        cancelled = true
      },
    })
    const asked = failure(testEgress({ allowPrivate }).fetch(`${url}/hang`, { method: 'POST', body: endless, signal: abort.signal }))
    await until(() => connections.open === 1)
    await within100ms(
      () => abort.abort(new Error('enough')),
      () => connections.open === 0 && cancelled,
    )
    expect((await asked).message).toBe('enough')
  })

  test('of the gateway ends what is under way', async () => {
    const { url, connections } = await big
    const egress = testEgress({ allowPrivate })
    const response = await egress.fetch(url, unlimited)
    const hanging = failure(egress.fetch(`${url}/hang`))
    await until(() => connections.open === 2)
    const reason = new Error('stopping')
    await within100ms(
      () => egress.stop(reason),
      () => connections.open === 0,
    )
    expect([await hanging, await failure(response.text())]).toEqual([reason, reason])
    expect(await failure(egress.fetch(url))).toBe(reason)
  })

  test('that was there before the beginning: nothing is looked up', async () => {
    const egress = testEgress({ allowPrivate }, { 'some.example': ['127.0.0.1'] })
    const reason = new Error('before')
    for (const ask of [egress.fetch, egress.check]) expect(await failure(ask('http://some.example/', { signal: AbortSignal.abort(reason) }))).toBe(reason)
    expect(egress.lookups).toEqual([])
  })

  test('of nobody’s patience: a server is not read faster than its reader reads', async () => {
    let written = 0
    const { url } = await start((_, response) => {
      const chunk = Buffer.alloc(65_536)
      const write = () => {
        while (!response.destroyed) {
          written += chunk.length
          if (!response.write(chunk)) return void response.once('drain', write)
        }
      }
      write()
    })
    const response = await testEgress({ allowPrivate }).fetch(url, unlimited)
    const reader = response.body!.getReader()
    await reader.read()
    await Bun.sleep(300)
    const before = written
    await Bun.sleep(300)
    expect(written).toBe(before)
    expect(written).toBeLessThan(16_000_000)
    let read = 0
    while (read < 30_000_000) read += (await reader.read()).value?.byteLength ?? 0
    expect(written).toBeGreaterThan(before)
    await reader.cancel()
  })
})

describe('places', () => {
  test('are so many to one host, and so many in all; who finds none is told at once, and they come back', async () => {
    const waiting: ServerResponse[] = []
    const { port } = await start((_, response) => void waiting.push(response))
    const names = Object.fromEntries(['a.example', 'b.example', 'c.example'].map((name) => [name, ['127.0.0.1']]))
    const egress = testEgress({ allowPrivate, maxConcurrent: 3, maxConcurrentPerHost: 2 }, names)
    const ask = (name: string) => egress.fetch(`http://${name}:${port}/`)
    const first = [ask('a.example'), ask('a.example')]
    await until(() => waiting.length === 2)
    const third = await failure(ask('A.example.'))
    expect([third.code, third.retryAfter, third.message]).toEqual(['rate_limit_exceeded', 1, expect.stringContaining('to the host "a.example"')])
    const other = ask('b.example')
    await until(() => waiting.length === 3)
    expect((await failure(ask('c.example'))).message).toContain('to other servers')
    for (const response of waiting.splice(0)) response.end('ok')
    // A head is not the end: the place is free when the body was read.
    const answers = await Promise.all([...first, other])
    expect((await failure(ask('c.example'))).code).toBe('rate_limit_exceeded')
    for (const answer of answers) expect(await answer.text()).toBe('ok')
    const again = [ask('a.example'), ask('a.example'), ask('c.example')]
    await until(() => waiting.length === 3)
    for (const response of waiting.splice(0)) response.end('ok')
    expect(await Promise.all(again.map(outcomeOf))).toEqual(['200', '200', '200'])
    expect(egress.refusals.map(({ reason }) => reason)).toEqual(['busy', 'busy', 'busy'])
  })

  test('are given back after every failure', async () => {
    const { url, port } = await start((request, response) => {
      if (request.url === '/cut') response.destroy()
      else if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end()
      else if (request.url === '/inside') response.writeHead(302, { location: 'http://10.0.0.1/' }).end()
      else if (request.url === '/long') response.end(Buffer.alloc(2_000))
      else response.end('ok')
    })
    const egress = testEgress({ allowPrivate, maxConcurrent: 1, maxConcurrentPerHost: 1, maxBytes: 1_000 }, { 'x.example': ['10.0.0.1'] })
    for (let n = 0; n < 3; n++) {
      for (const path of ['/cut', '/loop', '/inside', '/long'])
        expect(await outcomeOf(egress.fetch(url + path))).toMatch(/^(upstream_error|address_not_allowed)$/)
      for (const other of ['http://none.example/', `http://x.example:${port}/`, 'http://127.0.0.1:9/', 'no url'])
        expect(await outcomeOf(egress.fetch(other))).toMatch(/_/)
    }
    expect(await outcomeOf(egress.fetch(url))).toBe('200')
  })

  test('for look-ups stay taken while the look-up hangs, though its caller has left', async () => {
    let free = () => {}
    const hanging = () =>
      new Promise<readonly string[]>((resolve) => {
        free = () => resolve(['8.8.8.8'])
      })
    const egress = testEgress({ maxConcurrent: 1, connectTimeoutMs: 100 }, { 'slow.example': hanging, 'inside.example': ['10.0.0.1'] })
    expect((await failure(egress.check('http://slow.example/'))).code).toBe('upstream_timeout')
    expect((await failure(egress.check('http://inside.example/'))).code).toBe('rate_limit_exceeded')
    free()
    await Bun.sleep(5)
    expect((await failure(egress.check('http://inside.example/'))).code).toBe('address_not_allowed')
  })
})
