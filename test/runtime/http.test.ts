/** The kernel's HTTP room behaves the same on both runtimes: each test talks to a real process. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { runtimePath } from '../fixtures/gateway-process.ts'

const script = fileURLToPath(new URL('./server.ts', import.meta.url))
const good = { authorization: 'Bearer good' }

describe.each(['bun', 'deno'] as const)('on %s', (runtime) => {
  let child: ChildProcess
  let port = 0
  let url = ''
  let lines: AsyncIterableIterator<string>

  beforeAll(async () => {
    child = spawn(runtimePath(runtime), runtime === 'bun' ? [script] : ['run', '-A', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    const first = JSON.parse((await lines.next()).value)
    expect(first.runtime).toStartWith(runtime)
    port = first.port
    url = `http://127.0.0.1:${port}`
  })
  afterAll(() => void child.kill('SIGKILL'))

  const notes = async (): Promise<string[]> => (await fetch(`${url}/t/notes`)).json()
  const untilNote = async (text: string) => {
    for (let i = 0; i < 100; i++) {
      if ((await notes()).some((note) => note.includes(text))) return
      await Bun.sleep(20)
    }
    expect(await notes()).toContain(text)
  }
  /** Sends raw bytes, returns all that came back once `done` says so or the other end closes. */
  const raw = async (text: string, done: (answer: string) => boolean = () => false): Promise<string> => {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    socket.write(text)
    for await (const chunk of socket) {
      answer += chunk
      if (done(answer)) break
    }
    socket.destroy()
    return answer
  }
  const get = (target: string, host = `127.0.0.1:${port}`) => raw(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
  const open = async (path = '/t/ws', headers: Record<string, string> = good) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers } as never)
    socket.binaryType = 'arraybuffer'
    await once(socket, 'message')
    return socket
  }
  const closing = async (socket: WebSocket): Promise<[number, string]> => {
    const [event] = await once(socket, 'close')
    return [event.code, event.reason]
  }

  test('a handler gets its request information, and the answer its request id', async () => {
    const response = await fetch(`${url}/t/hello/a%2Fb`, { headers: { ...good, 'x-request-id': 'my-id.1' } })
    expect(response.headers.get('x-request-id')).toBe('my-id.1')
    expect(await response.json()).toEqual({ hello: 'a/b', principal: 'ann', requestId: 'my-id.1', loopback: true })
  })

  test('the client is seen by its address, and a Forwarded header ends being loopback', async () => {
    expect(await (await fetch(`${url}/t/where`)).json()).toMatchObject({ address: '127.0.0.1', loopback: true })
    expect(await (await fetch(`${url}/t/where`, { headers: { 'x-forwarded-for': '127.0.0.1' } })).json()).toMatchObject({
      address: '127.0.0.1',
      loopback: false,
    })
  })

  test('a foreign Host is refused, a missing or doubled or broken one is a bad request', async () => {
    expect(await get('/t/notes', 'evil.example')).toStartWith('HTTP/1.1 403')
    expect(await get('/t/notes', `localhost:${port}`)).toStartWith('HTTP/1.1 200')
    expect(await get('/t/notes', `LOCALHOST:${port}`)).toStartWith('HTTP/1.1 200')
    expect(await get('/t/notes', 'localhost:1')).toStartWith('HTTP/1.1 403')
    expect(await get('/t/notes', 'a b/c')).toMatch(/^HTTP\/1.1 (400|403)/)
    expect(await raw('GET /t/notes HTTP/1.1\r\nConnection: close\r\n\r\n')).toStartWith('HTTP/1.1 400')
    expect(await raw(`GET /t/notes HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`)).toStartWith('HTTP/1.1 400')
    expect(await get('/', 'a')).toStartWith('HTTP/1.1 403')
  })

  test('paths with tricks never reach a route that they do not name', async () => {
    for (const target of ['/t//notes', '/t/%zz', '/t/not%5ces', '/t/x%00', '//t/notes', '/t/..%2fnotes']) {
      expect(`${target} ${(await get(target)).slice(9, 12)}`).toBe(`${target} 400`)
    }
    // Bun resolves these before anybody sees them; what matters is that nothing but the plain path is reached.
    for (const target of ['/t/../secret', '/t/%2e%2e/secret', '/t\\..\\x', 'http://evil.example/t/nothing', '/x/../t/nothing'])
      expect((await get(target)).slice(9, 12)).toMatch(/400|404/)
  })

  test('a foreign Origin is refused', async () => {
    expect((await fetch(`${url}/t/notes`, { headers: { origin: 'https://evil.example' } })).status).toBe(403)
    expect((await fetch(`${url}/t/notes`, { headers: { origin: url } })).status).toBe(200)
  })

  test('what a handler throws does not leave', async () => {
    const response = await fetch(`${url}/t/secret`)
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('secret')
    expect(await notes()).toContain('fixture GET /t/secret: secret')
  })

  test('a stream that breaks is named, and does not look whole to its client', async () => {
    const response = await fetch(`${url}/t/broken`)
    const read = async () => {
      let text = ''
      for await (const chunk of response.body ?? []) text += new TextDecoder().decode(chunk)
      return text
    }
    expect(
      await read().then(
        (text) => text,
        () => 'broke',
      ),
    ).toBe('broke')
    expect(await notes()).toContain('fixture GET /t/broken stream: boom')
  })

  test('a body over the limit is 413, announced or chunked', async () => {
    const big = 'x'.repeat(150_000)
    const announced = await raw(`POST /t/raw HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 150000\r\nConnection: close\r\n\r\n`, (answer) =>
      answer.includes('requestId'),
    )
    expect(announced).toMatch(/^HTTP\/1.1 413.*body_too_large/s)
    const chunked = await raw(
      `POST /t/raw HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${(150_000).toString(16)}\r\n${big}\r\n0\r\n\r\n`,
      (answer) => answer.includes('requestId'),
    )
    expect(chunked).toMatch(/^HTTP\/1.1 413.*body_too_large/s)
    const json = JSON.stringify({ text: big })
    const parsed = await raw(
      `POST /t/echo HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`,
      (answer) => answer.includes('requestId'),
    )
    expect(parsed).toMatch(/^HTTP\/1.1 413.*body_too_large/s)
  })

  test('a GET with a chunked body is a bad request, an endless announcement is 413', async () => {
    const chunked = `GET /t/notes HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n`
    expect(await raw(chunked, (answer) => answer.includes('requestId'))).toMatch(/^HTTP\/1.1 400.*invalid_request/s)
    const endless = `POST /t/raw HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n`
    expect(await raw(endless, (answer) => answer.includes('requestId'))).toMatch(/^HTTP\/1.1 413.*body_too_large/s)
  })

  test('a chunked body within the limit arrives whole', async () => {
    const parts = ['abc', 'x'.repeat(60_000), 'yz']
    const body = `${parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join('')}0\r\n\r\n`
    const answer = await raw(`POST /t/raw HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${body}`)
    expect(answer).toContain('{"size":60005}')
  })

  test('JSON in and out; broken JSON, another type and a wrong shape are told apart', async () => {
    const post = (body: string, type = 'application/json') => fetch(`${url}/t/echo`, { method: 'POST', headers: { ...good, 'content-type': type }, body })
    expect(await (await post('{"text":"ü"}')).json()).toEqual({ text: 'ü' })
    const code = async (response: Response) => [response.status, ((await response.json()) as { error: { code: string } }).error.code]
    expect(await code(await post('{"text":'))).toEqual([400, 'invalid_json'])
    expect(await code(await post('text=1', 'application/x-www-form-urlencoded'))).toEqual([415, 'unsupported_media_type'])
    expect(await code(await post('{"text":1}'))).toEqual([400, 'validation_failed'])
    expect(await code(await post('{"text":"a","more":1}'))).toEqual([400, 'validation_failed'])
  })

  test('a late handler is answered 504 at its deadline', async () => {
    const begun = performance.now()
    const response = await fetch(`${url}/t/late`, { headers: good })
    expect(response.status).toBe(504)
    expect(performance.now() - begun).toBeLessThan(1_500)
  })

  test('a client that leaves aborts the handler’s signal', async () => {
    const abort = new AbortController()
    const request = fetch(`${url}/t/wait`, { headers: good, signal: abort.signal }).catch(() => 'aborted')
    await untilNote('waiting')
    abort.abort()
    expect(await request).toBe('aborted')
    await untilNote('left')
  })

  test('a stream’s head comes at once, its frames follow, and leaving cancels it', async () => {
    const abort = new AbortController()
    const response = await fetch(`${url}/t/stream`, { headers: good, signal: abort.signal })
    expect(response.headers.get('content-type')).toStartWith('text/event-stream')
    const reader = response.body!.getReader()
    let text = ''
    while (!text.includes('event: tick')) text += new TextDecoder().decode((await reader.read()).value)
    expect(text).toStartWith('retry: 3000\n\n')
    abort.abort()
    await untilNote('stream cancelled')
  })

  test('HEAD: headers of a plain route, and no handler runs for a stream', async () => {
    const plain = await fetch(`${url}/t/file`, { method: 'HEAD', headers: good })
    expect([plain.status, plain.headers.get('content-length'), await plain.text()]).toEqual([200, '1000', ''])
    const before = (await notes()).filter((note) => note === 'stream began').length
    const stream = await fetch(`${url}/t/stream`, { method: 'HEAD', headers: good })
    expect([stream.status, await stream.text()]).toEqual([200, ''])
    expect((await notes()).filter((note) => note === 'stream began').length).toBe(before)
  })

  test('sockets: upgrade, text and bytes back, the plugin’s own close', async () => {
    const socket = await open()
    socket.send('hello')
    expect((await once(socket, 'message'))[0].data).toBe('hello')
    socket.send(new Uint8Array([1, 2, 250]))
    expect([...new Uint8Array((await once(socket, 'message'))[0].data)]).toEqual([1, 2, 250])
    socket.send('close')
    expect(await closing(socket)).toEqual([4_999, 'as asked'])
    await untilNote('closed 4999 as asked')
  })

  test('sockets: a close by the client tells the plugin its code', async () => {
    const socket = await open()
    socket.close(4_321, 'bye')
    await untilNote('closed 4321 bye')
  })

  test('sockets: refused at the upgrade with the same codes', async () => {
    const upgrade = (path: string, headers: string) =>
      raw(
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`,
        (answer) => answer.includes('\r\n\r\n'),
      )
    expect(await upgrade('/t/ws', '')).toMatch(/^HTTP\/1.1 401.*www-authenticate: Bearer/is)
    expect(await upgrade('/t/ws', 'Authorization: Bearer bad\r\n')).toStartWith('HTTP/1.1 401')
    expect(await upgrade('/t/ws', 'Authorization: Bearer poor\r\n')).toStartWith('HTTP/1.1 403')
    expect(await upgrade('/t/ws?token=good', '')).toStartWith('HTTP/1.1 400')
    expect(await upgrade('/t/ws?ticket=good', '')).toStartWith('HTTP/1.1 101')
    expect(await upgrade('/t/ws', 'Authorization: Bearer good\r\nOrigin: https://evil.example\r\n')).toStartWith('HTTP/1.1 403')
    expect(await upgrade('/t/nothing', 'Authorization: Bearer good\r\n')).toStartWith('HTTP/1.1 404')
    expect(await upgrade('/t/ws', 'Authorization: Bearer good\r\n')).toStartWith('HTTP/1.1 101')
  })

  test('sockets: a hook that throws or rejects closes its own connection, and nothing else', async () => {
    const other = await open()
    for (const [word, error] of [
      ['throw', 'thrown by a hook'],
      ['reject', 'rejected by a hook'],
    ] as const) {
      const socket = await open()
      socket.send(word)
      expect((await closing(socket))[0]).toBe(1_011)
      await untilNote(error)
    }
    other.send('still here')
    expect((await once(other, 'message'))[0].data).toBe('still here')
    other.close()
  })

  test('sockets: a message over the limit closes with 1009', async () => {
    const socket = await open()
    socket.send('x'.repeat(1_001))
    expect((await closing(socket))[0]).toBe(1_009)
  })

  test('sockets: one that never reads is cut off once it is 1 MB behind', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `GET /t/ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer good\r\n\r\n`,
    )
    await once(socket, 'data')
    socket.pause()
    const mask = Buffer.from([0x81, 0x85, 0, 0, 0, 0])
    socket.write(Buffer.concat([mask, Buffer.from('flood')]))
    await untilNote('flood ended, then false')
    socket.destroy()
    await untilNote('closed 1013')
  })

  test('revoking ends streams and sockets of the credential', async () => {
    const socket = await open()
    const stream = await fetch(`${url}/t/stream`, { headers: good })
    const closed = closing(socket)
    await fetch(`${url}/t/do/revoke`, { method: 'POST' })
    expect(await closed).toEqual([4_001, 'credential revoked'])
    await stream.text()
    expect(await notes()).toContain('stream revoked')
  })

  test('live streams and sockets are capped per caller', async () => {
    const sockets = await Promise.all(Array.from({ length: 8 }, () => open()))
    const refused = await fetch(`${url}/t/stream`, { headers: good })
    expect(refused.status).toBe(429)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    for (const socket of sockets) {
      socket.close()
      await closing(socket)
    }
    const stats = async () => (await fetch(`${url}/t/do/stats`, { method: 'POST' })).json() as Promise<{ gauges: Record<string, number> }>
    for (let i = 0; i < 50 && (await stats()).gauges.streams_events !== 0; i++) await Bun.sleep(20)
    expect((await stats()).gauges).toMatchObject({ streams_events: 0, requests_in_flight: 1 })
  })

  test('SIGTERM: sockets close with 1001, streams end, new requests are refused, exit 0', async () => {
    const socket = await open()
    const stream = await fetch(`${url}/t/stream`, { headers: good })
    const closed = closing(socket)
    const exit = once(child, 'exit')
    child.kill('SIGTERM')
    expect((await closed)[0]).toBe(1_001)
    await stream.text()
    expect((await lines.next()).value).toBe('SIGTERM')
    expect(await exit).toEqual([0, null])
  })
})
