/** What strangers send: raw bytes on the wire of a real process, and what they get. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { readdir, readFile, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { bearer, createKey, outcome, send } from '../fixtures/send.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { until } from '../fixtures/until.ts'

const plugins = [new URL('../fixtures/plugins/listener.ts', import.meta.url), new URL('../fixtures/plugins/patient.ts', import.meta.url)].map((url) =>
  fileURLToPath(url),
)
const env = { PORTICO_TOKEN: 'canary-of-the-environment-0123456789', CANARY: 'canary-of-the-config-0123456789abcdef' }
const config = `plugins = ${JSON.stringify(plugins)}\n[[auth-token.tokens]]\nid = "fixed"\nsecret = "env:CANARY"\nscopes = ["rpc"]\n`

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  let host: string
  let key: { id: string; key: string }
  let slowHead: Promise<{ how: string; ms: number }>
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime, config, env })
    host = new URL(gateway.url).host
    key = await createKey(gateway)
    slowHead = dribble()
  }, 30_000)
  afterAll(() => gateway?.stop())

  /** Writes the bytes as they are; resolves to `status code` of the first answer, or `closed`. */
  function wire(text: string): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
      let got = ''
      socket.setTimeout(5_000, () => socket.destroy())
      socket.on('data', (chunk) => {
        got += chunk.toString('latin1')
        if (got.includes('text/event-stream')) socket.destroy()
      })
      socket.on('error', () => undefined)
      socket.on('close', () => {
        const status = /^HTTP\/1\.[01] (\d+)/.exec(got)?.[1] ?? 'closed'
        resolve(`${status} ${/"code":"(\w+)"/.exec(got)?.[1] ?? ''}`.trim())
      })
      socket.write(text, 'latin1')
    })
  }
  const rss = async () => Number(/process_resident_memory_bytes (\d+)/.exec(await (await gateway.fetch('/metrics')).text())?.[1])
  /** Sends a header line a second, for ever; what ended it, and after how long. Begun first, asked last: it takes as long as all the rest. */
  function dribble(): Promise<{ how: string; ms: number }> {
    const begun = performance.now()
    return new Promise((resolve) => {
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
      let got = ''
      socket.write(`GET /health HTTP/1.1\r\nHost: ${host}\r\n`)
      const timer = setInterval(() => socket.write('X-A: a\r\n'), 1_000)
      socket.on('data', (bytes) => {
        got += String(bytes)
      })
      socket.on('error', () => undefined)
      socket.on('close', () => {
        clearInterval(timer)
        resolve({ how: /^HTTP\/1\.1 (\d+)/.exec(got)?.[1] ?? 'closed', ms: performance.now() - begun })
      })
    })
  }
  const lines = (first: string, ...headers: string[]) => `${[first, `Host: ${host}`, ...headers, 'Connection: close'].join('\r\n')}\r\n\r\n`
  const good = () => `Authorization: Bearer ${key.key}`
  const whoami = 'GET /api/v1/auth/whoami HTTP/1.1'
  const upgrade = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
  /** A POST with a body, whose length is said by `Content-Length` unless it comes in chunks. */
  const post = (path: string, body: string, ...headers: string[]) => {
    const isChunked = headers.some((header) => header.startsWith('Transfer-Encoding'))
    return `${lines(`POST ${path} HTTP/1.1`, ...headers, ...(isChunked ? [] : [`Content-Length: ${body.length}`]))}${body}`
  }
  const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
  const [isJson, isChunked] = ['Content-Type: application/json', 'Transfer-Encoding: chunked']
  const json = (body: string) => post('/patient/json', body, isJson)
  const refused = /^(4\d\d|505|closed)/

  type Row = [what: string, bytes: () => string, expected: string | RegExp]
  const credentials: Row[] = [
    ['none', () => lines(whoami), '401 missing_credentials'],
    ['a good one', () => lines(whoami, good()), '200'],
    ['its scheme in another case', () => lines(whoami, `AUTHORIZATION: bEARER ${key.key}`), '200'],
    ['its letters in another case', () => lines(whoami, `Authorization: Bearer ${key.key.toUpperCase()}`), '401 invalid_api_key'],
    ['a letter more', () => lines(whoami, `${good()}x`), '401 invalid_api_key'],
    ['behind a tab', () => lines(whoami, `Authorization: Bearer\t${key.key}`), '401 invalid_api_key'],
    ['behind another header of the same name', () => lines(whoami, 'Authorization: Bearer x', good()), '401 invalid_api_key'],
    ['as X-Api-Key', () => lines(whoami, `X-Api-Key: ${key.key}`), '200'],
    ['as X-Api-Key behind a bad Authorization', () => lines(whoami, 'Authorization: Bearer x', `X-Api-Key: ${key.key}`), '401 invalid_api_key'],
    ['as X-Api-Key behind an empty Authorization', () => lines(whoami, 'Authorization:', `X-Api-Key: ${key.key}`), '401 invalid_api_key'],
    ['as X-Api-Key behind a Basic one', () => lines(whoami, 'Authorization: Basic eDp5', `X-Api-Key: ${key.key}`), '401 invalid_api_key'],
    ['an empty one where none is needed', () => lines('GET /metrics HTTP/1.1', 'X-Api-Key:'), '401 invalid_api_key'],
    ['in a folded line', () => `${whoami}\r\nHost: ${host}\r\nAuthorization: Bearer\r\n ${key.key}\r\nConnection: close\r\n\r\n`, refused],
    ['of too few scopes', () => lines('GET /api/keys HTTP/1.1', good()), '403 insufficient_scope'],
    ['through a proxy, the local one', () => lines(whoami, `Authorization: Bearer ${gateway.token}`, 'X-Forwarded-For: 127.0.0.1'), '401 invalid_api_key'],
  ]
  const methods: Row[] = [
    ['HEAD is no way around a guard', () => lines('HEAD /api/keys HTTP/1.1'), '401'],
    ['OPTIONS shows methods only', () => lines('OPTIONS /api/keys HTTP/1.1'), '204'],
    ['TRACE echoes nothing', () => lines('TRACE /api/keys HTTP/1.1', good()), '405 method_not_allowed'],
    ['an unknown method', () => lines('PROPFIND /api/keys HTTP/1.1'), '405 method_not_allowed'],
    ['the table’s own word for sockets', () => lines('WS /listener HTTP/1.1'), refused],
    ['CONNECT', () => lines(`CONNECT ${host} HTTP/1.1`), refused],
    ['an override of the method and the path', () => lines('GET /health HTTP/1.1', 'X-HTTP-Method-Override: DELETE', 'X-Original-URL: /api/keys'), '200'],
  ]
  const paths: Row[] = [
    ['dot segments', () => lines('GET /health/../api/keys HTTP/1.1'), /^(400 invalid_request|401 missing_credentials)$/],
    ['escaped dot segments', () => lines('GET /health/%2e%2e/api/keys HTTP/1.1'), /^(400 invalid_request|401 missing_credentials)$/],
    ['backslashes', () => lines('GET /health\\..\\api\\keys HTTP/1.1'), /^(400 invalid_request|401 missing_credentials)$/],
    ['an escaped slash', () => lines('GET /api%2fkeys HTTP/1.1'), '404 not_found'],
    ['an escaped slash in a parameter', () => lines(`GET /api/keys/${key.id}%2frotate HTTP/1.1`, `X-Api-Key: ${gateway.token}`), '404 not_found'],
    ['an escaped letter', () => lines('GET /%61pi/keys HTTP/1.1'), '404 not_found'],
    ['other letters', () => lines('GET /API/keys HTTP/1.1'), '404 not_found'],
    ['a slash at the end', () => lines('GET /api/keys/ HTTP/1.1'), '401 missing_credentials'],
    ['two slashes', () => lines('GET //api/keys HTTP/1.1'), '400 invalid_request'],
    ['an escaped NUL', () => lines('GET /api/keys%00 HTTP/1.1'), '400 invalid_request'],
    ['a broken escape', () => lines('GET /v1/models/%zz HTTP/1.1', good()), '400 invalid_request'],
    ['an overlong escape', () => lines('GET /v1/models/%c0%ae HTTP/1.1', good()), '400 invalid_request'],
    ['a double escape', () => lines('GET /v1/models/%252e%252e HTTP/1.1', good()), '404 model_not_found'],
    ['a name of the prototype', () => lines('GET /api/plugins/__proto__ HTTP/1.1', `X-Api-Key: ${gateway.token}`), '404 not_found'],
    ['prototype names in the query', () => lines('GET /api/activity?__proto__=1&constructor=2 HTTP/1.1', good()), '400 validation_failed'],
    ['10,000 characters', () => lines(`GET /v1/models/${'a/'.repeat(5_000)}a HTTP/1.1`, good()), '404 model_not_found'],
  ]
  const hosts: Row[] = [
    ['no Host', () => 'GET /health HTTP/1.1\r\nConnection: close\r\n\r\n', /^400/],
    ['no Host in HTTP/1.0', () => 'GET /health HTTP/1.0\r\n\r\n', /^400/],
    ['two Hosts', () => lines('GET /health HTTP/1.1', 'Host: evil.example'), /^400/],
    ['a Host with a path', () => `GET /health HTTP/1.1\r\nHost: ${host}/x\r\nConnection: close\r\n\r\n`, refused],
    ['a Host with a user', () => `GET /health HTTP/1.1\r\nHost: evil.example@${host}\r\nConnection: close\r\n\r\n`, refused],
    ['a Host in other digits', () => `GET /health HTTP/1.1\r\nHost: 2130706433:${host.split(':')[1]}\r\nConnection: close\r\n\r\n`, refused],
    ['another Host in the target', () => 'GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n', '403 host_not_allowed'],
  ]
  const framing: Row[] = [
    ['two lengths', () => lines('POST /v1/ping HTTP/1.1', 'Content-Length: 5', 'Content-Length: 6'), /^400/],
    ['a length and chunks', () => `${lines('POST /v1/ping HTTP/1.1', 'Content-Length: 6', 'Transfer-Encoding: chunked')}0\r\n\r\nGET /x`, /^400/],
    ['an unknown coding', () => `${lines('POST /v1/ping HTTP/1.1', 'Transfer-Encoding: xchunked')}0\r\n\r\n`, /^400/],
    ['a negative length', () => lines('POST /v1/ping HTTP/1.1', 'Content-Length: -5'), /^400/],
    ['a length of terabytes', () => lines('POST /v1/ping HTTP/1.1', good(), 'Content-Length: 99999999999999'), /^413/],
    ['a blank before the colon', () => lines(whoami, `Authorization : Bearer ${key.key}`), /^400/],
    ['a header of 100 kB', () => lines('GET /health HTTP/1.1', `X-A: ${'a'.repeat(100_000)}`), /^(400|431)/],
    ['5,000 headers', () => lines('GET /health HTTP/1.1', ...Array.from({ length: 5_000 }, (_, n) => `X-${n}: a`)), /^(400|431)/],
    ['a bare carriage return', () => lines('GET /health HTTP/1.1', 'X-Request-Id: a\rSet-Cookie: x=1'), /^400/],
    ['an upgrade to HTTP/2', () => lines('GET /api/keys HTTP/1.1', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'), '401 missing_credentials'],
  ]
  const bodies: Row[] = [
    ['a good one', () => json('{"said":"x"}'), '200'],
    ['a good one in chunks', () => post('/patient/json', `${chunk('{"said"')}${chunk(':"x"}')}0\r\n\r\n`, isJson, isChunked), '200'],
    ['none', () => json(''), '400 invalid_json'],
    ['half of one', () => json('{"said":'), '400 invalid_json'],
    ['two', () => json('{"said":"x"}{}'), '400 invalid_json'],
    ['bytes that are no UTF-8', () => json('{"said":"\xff\xfe"}'), '400 invalid_json'],
    ['an overlong NUL', () => json('{"said":"\xc0\x80"}'), '400 invalid_json'],
    ['half of a surrogate pair, as UTF-8', () => json('{"said":"\xed\xa0\x80"}'), '400 invalid_json'],
    ['UTF-16', () => json('\xff\xfe{\0}\0'), '400 invalid_json'],
    ['a raw NUL', () => json('{"said":"\0"}'), '400 invalid_json'],
    ['100,000 brackets', () => json(`{"said":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), '400 invalid_json'],
    ['100,000 brackets that are not closed', () => json('['.repeat(100_000)), '400 invalid_json'],
    ['__proto__', () => json('{"said":"x","__proto__":{"admin":true}}'), '400 validation_failed'],
    ['__proto__ instead', () => json('{"__proto__":{"said":"x"}}'), '400 validation_failed'],
    ['constructor.prototype', () => json('{"said":"x","constructor":{"prototype":{"admin":true}}}'), '400 validation_failed'],
    ['a number of a million digits', () => json(`{"said":${'9'.repeat(1_000_000)}}`), '400 validation_failed'],
    ['900,000 unknown keys’ bytes', () => json(`{${Array.from({ length: 80_000 }, (_, n) => `"k${n}":1`).join()}}`), '400 validation_failed'],
    ['2 MB', () => json(`{"said":"${'x'.repeat(2_000_000)}"}`), '413 body_too_large'],
    ['2 MB in chunks', () => post('/patient/json', `${chunk(`{"said":"${'x'.repeat(2_000_000)}"}`)}0\r\n\r\n`, isJson, isChunked), '413 body_too_large'],
    [
      '200 kB in chunks, where the route takes 100',
      () => post('/patient/bytes', `${chunk('x'.repeat(100_000)).repeat(2)}0\r\n\r\n`, isChunked),
      '413 body_too_large',
    ],
    ['100 kB in chunks of a byte', () => post('/patient/bytes', `${chunk('x').repeat(100_000)}0\r\n\r\n`, isChunked), /^(200|504 deadline_exceeded)$/],
    ['a chunk of a size that is none', () => post('/patient/json', 'zz\r\n{}\r\n0\r\n\r\n', isJson, isChunked), refused],
    ['a chunk of a negative size', () => post('/patient/json', '-1\r\n{}\r\n0\r\n\r\n', isJson, isChunked), refused],
    ['a chunk of 2^64 bytes', () => post('/patient/json', '10000000000000000\r\n{}\r\n0\r\n\r\n', isJson, isChunked), refused],
    ['with GET', () => `${lines('GET /health HTTP/1.1', isChunked)}0\r\n\r\n`, /^400/],
    ['as text', () => post('/patient/json', '{"said":"x"}', 'Content-Type: text/plain'), '415 unsupported_media_type'],
    ['as a form', () => post('/patient/json', 'said=x', 'Content-Type: application/x-www-form-urlencoded'), '415 unsupported_media_type'],
    ['as parts of a form', () => post('/patient/json', '--x--', 'Content-Type: multipart/form-data; boundary=x'), '415 unsupported_media_type'],
    ['as nothing', () => post('/patient/json', '{"said":"x"}'), '415 unsupported_media_type'],
    ['as something like JSON', () => post('/patient/json', '{"said":"x"}', 'Content-Type: application/jsonx'), '415 unsupported_media_type'],
    [
      'as JSON and as text',
      () => post('/patient/json', '{"said":"x"}', isJson, 'Content-Type: text/plain'),
      /^(400 invalid_json|415 unsupported_media_type|200)$/,
    ],
    ['packed', () => post('/patient/json', '\x1f\x8b\x08\0\0\0\0\0', isJson, 'Content-Encoding: gzip'), '400 invalid_json'],
  ]
  const streams: Row[] = [
    ['HEAD of events', () => lines('HEAD /api/events HTTP/1.1', good()), '200'],
    ['HEAD of events from of old', () => lines('HEAD /api/events?since=0-0 HTTP/1.1', good()), '200'],
    ['HEAD of events without a key', () => lines('HEAD /api/events HTTP/1.1'), '401'],
    ['HEAD of a model call', () => lines('HEAD /v1/chat/completions HTTP/1.1', good()), '405'],
    ['HEAD of a socket', () => lines('HEAD /listener HTTP/1.1', good()), /^40[05]/],
  ]
  const sockets: Row[] = [
    ['an upgrade of a route that is none', () => lines('GET /api/keys HTTP/1.1', ...upgrade), '401 missing_credentials'],
    ['an upgrade without a key', () => lines('GET /listener HTTP/1.1', ...upgrade), '401 missing_credentials'],
    [
      'an upgrade from another page, with a good key',
      () => lines('GET /listener HTTP/1.1', ...upgrade, good(), 'Origin: https://evil.example'),
      '403 origin_not_allowed',
    ],
    ['an upgrade by a page in a sandbox', () => lines('GET /listener HTTP/1.1', ...upgrade, good(), 'Origin: null'), '403 origin_not_allowed'],
    [
      'an upgrade for another Host',
      () => lines('GET /listener HTTP/1.1', ...upgrade, good()).replace(`Host: ${host}`, 'Host: evil.example'),
      '403 host_not_allowed',
    ],
    ['an upgrade by a key of too few scopes', () => lines('GET /listener/admin HTTP/1.1', ...upgrade, good()), '403 insufficient_scope'],
    ['no upgrade where one is needed', () => lines('GET /listener HTTP/1.1', good()), '400 invalid_request'],
  ]

  test.each([
    ['credentials', credentials],
    ['methods', methods],
    ['paths', paths],
    ['hosts', hosts],
    ['framing', framing],
    ['bodies', bodies],
    ['streams', streams],
    ['sockets', sockets],
  ] as const)('%s', async (_, rows) => {
    const got = await Promise.all(rows.map(async ([what, bytes]) => [what, await wire(bytes())]))
    expect(got).toEqual(rows.map(([what, , expected]) => [what, typeof expected === 'string' ? expected : expect.stringMatching(expected)]))
  })

  test('a request id that could harm a log or a header is replaced', async () => {
    for (const id of ['a b', 'a"b', '<x>', 'a\u00e9', '$(x)', '../x', 'x'.repeat(129), '%0d%0aset-cookie: x', 'a;b', 'a,b', '\u0085', ''])
      expect([id, (await send(gateway, '/health', { headers: { 'x-request-id': id } })).headers['x-request-id']]).toEqual([
        id,
        expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      ])
    expect((await send(gateway, '/health', { headers: { 'x-request-id': 'Good-1.2_3' } })).headers['x-request-id']).toBe('Good-1.2_3')
  })

  test('a body that comes a byte at a time is cut at the deadline of its route, and holds nothing', async () => {
    const slow = (path: string, ...headers: string[]) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
        let got = ''
        const timer = setInterval(() => socket.write(headers.includes(isChunked) ? chunk(' ') : ' '), 100)
        const end = () => {
          clearInterval(timer)
          socket.destroy()
          resolve(`${/^HTTP\/1\.1 (\d+)/.exec(got)?.[1]} ${/"code":"(\w+)"/.exec(got)?.[1]}`)
        }
        socket.on('data', (bytes) => {
          got += String(bytes)
          if (got.includes('"code"')) end()
        })
        socket.on('error', () => undefined).on('close', end)
        socket.write(lines(`POST ${path} HTTP/1.1`, ...headers))
      })
    const begun = performance.now()
    const all = Array.from({ length: 20 }, () => [
      slow('/patient/json', isJson, 'Content-Length: 1000'),
      slow('/patient/json', isJson, isChunked),
      slow('/patient/bytes', 'Content-Length: 1000'),
      slow('/patient/bytes', isChunked),
    ])
    expect(new Set(await Promise.all(all.flat()))).toEqual(new Set(['504 deadline_exceeded']))
    expect(performance.now() - begun).toBeGreaterThan(900)
    await until(async () => /portico_requests_in_flight 1\n/.test(await (await gateway.fetch('/metrics')).text()), { message: () => 'no request in flight' })
  }, 20_000)

  test('a body of 600 kB that carries 100 kB a byte at a time holds neither memory nor the loop', async () => {
    const before = await rss()
    const body = `${chunk('x').repeat(100_000)}0\r\n\r\n`
    const answers = Promise.all(Array.from({ length: 3 }, () => wire(post('/patient/bytes', body, isChunked))))
    for (const answer of await answers) expect(answer).toMatch(/^(200|504 deadline_exceeded)$/)
    expect((await rss()) - before).toBeLessThan(500_000_000)
    await until(async () => /portico_requests_in_flight 1\n/.test(await (await gateway.fetch('/metrics')).text()), { message: () => 'no request in flight' })
  }, 20_000)

  test('nothing that is sent to a socket is kept beyond its limit: a message, a length, a stranger’s frame', async () => {
    const upgraded = (bytes: Buffer) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
        let got = Buffer.alloc(0)
        let isOpen = false
        socket.setTimeout(3_000, () => socket.destroy())
        socket.on('error', () => undefined)
        const closing = () => {
          const frame = got.subarray(got.indexOf('\r\n\r\n') + 4)
          return frame[0] === 0x88 && frame.length >= 4 ? String(frame.readUInt16BE(2)) : undefined
        }
        socket.on('close', () => resolve(closing() ?? 'cut'))
        socket.on('data', (data) => {
          got = Buffer.concat([got, Buffer.from(data as Uint8Array)])
          if (closing() !== undefined) socket.destroy()
          if (isOpen || !got.includes('\r\n\r\n')) return
          isOpen = true
          socket.write(bytes)
        })
        socket.write(lines('GET /patient/echo HTTP/1.1', ...upgrade, good()).replace('Connection: close', 'Connection: Upgrade'))
      })
    /** A frame as clients send it, masked with zeros; `length`: what it says of itself. */
    const frame = (first: number, payload: Buffer, length = BigInt(payload.length)) => {
      const head = Buffer.alloc(14)
      head[0] = first
      head[1] = 0xff
      head.writeBigUInt64BE(length, 2)
      return Buffer.concat([head, payload])
    }
    const before = await rss()
    expect(await upgraded(frame(0x81, Buffer.alloc(1_100_000, 'x')))).toBe('1009')
    expect(await upgraded(frame(0x82, Buffer.alloc(1_100_000)))).toBe('1009')
    const hostile = [
      frame(0x81, Buffer.alloc(12_000_000, 'x')),
      frame(0x82, Buffer.alloc(100), 1n << 62n),
      frame(0x82, Buffer.alloc(100), 0xffffffffffffffffn),
      frame(0x81, Buffer.from([0xff, 0xfe])),
      frame(0xf1, Buffer.from('x')),
      frame(0x83, Buffer.from('x')),
      frame(0x80, Buffer.from('x')),
      frame(0x89, Buffer.alloc(200)),
      Buffer.concat(Array.from({ length: 30 }, (_, n) => frame(n === 0 ? 0x01 : 0x00, Buffer.alloc(500_000, 'x')))),
    ]
    for (const end of await Promise.all(hostile.map(upgraded))) expect(end).toMatch(/^(1002|1003|1006|1007|1009|cut)$/)
    expect((await rss()) - before).toBeLessThan(150_000_000)
    expect(await outcome(gateway, '/health')).toBe('200')
  }, 60_000)

  test('bodies of the wrong kind are the caller’s fault on every JSON route', async () => {
    const headers = { ...bearer(gateway.token), 'content-type': 'application/json' }
    const bodies = [
      '',
      '   ',
      'null',
      '1',
      '"x"',
      '[]',
      '{',
      '{"a":1}',
      '{"__proto__":{"scopes":["admin"]}}',
      '{"constructor":{}}',
      '\u00ff\u00fe',
      '{"model":"a\\u0000","name":"a\\u0000","path":"\\u0000"}',
    ]
    const routes = [
      ['POST', '/api/keys'],
      ['PATCH', `/api/keys/${key.id}`],
      ['POST', '/api/tickets'],
      ['POST', '/v1/chat/completions'],
      ['POST', '/v1/embeddings'],
    ] as const
    for (const [method, path] of routes)
      for (const body of bodies)
        expect([path, body, await outcome(gateway, path, { method, headers, body })]).toEqual([path, body, expect.stringMatching(/^40[04] /)])
    for (const path of ['/v1/chat/completions', '/v1/embeddings']) {
      const deep = `{"x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
      expect([path, await outcome(gateway, path, { method: 'POST', headers, body: deep })]).toEqual([path, '400 validation_failed'])
    }
  })

  test('a ticket opens one path, once at a time, and no more than its key does', async () => {
    const ask = async (path: string) =>
      JSON.parse(
        (
          await send(gateway, '/api/tickets', {
            method: 'POST',
            headers: { ...bearer(key.key), 'content-type': 'application/json' },
            body: JSON.stringify({ path }),
          })
        ).text,
      )
    const { ticket, url } = (await ask('/api/events')) as { ticket: string; url: string }
    for (const path of ['/api/keys', '/api/activity', '/v1/models', '/listener'])
      expect([path, await outcome(gateway, `${path}?ticket=${ticket}`)]).toEqual([path, expect.stringMatching(/^40[01] /)])
    for (const path of [
      '/api/keys',
      '//evil.example/api/events',
      '/api/../api/events',
      '/api/events#x',
      'https://evil.example/api/events',
      '/api%2fevents',
      '/listener/admin',
    ])
      expect([path, (await ask(path)).error?.code]).toEqual([path, expect.stringMatching(/^(validation_failed|not_found|insufficient_scope)$/)])
    const stream = readSse(await fetch(new URL(url, gateway.url)))
    await stream.waitFor('ready')
    expect(await outcome(gateway, url)).toBe('409 conflict')
    expect(await outcome(gateway, '/api/tickets', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"path":"/api/events"}' })).toBe(
      '401 missing_credentials',
    )
    await stream.close()
  })

  test('what a caller names cannot end a frame or a header', async () => {
    const headers = { ...bearer(gateway.token), 'content-type': 'application/json' }
    const stream = readSse(await gateway.fetch('/api/events?types=key:*'))
    await stream.waitFor('ready')
    const name = 'x data: {} event: forged id: 1-0'
    await send(gateway, '/api/keys', { method: 'POST', headers, body: JSON.stringify({ name }) })
    expect(JSON.parse((await stream.waitFor('key:created')).data).name).toBe(name)
    await stream.close()
    const odd = await send(gateway, '/nowhere', { headers: { 'x-request-id': '<script>' } })
    expect(odd.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
    const docs = await send(gateway, '/docs')
    expect(docs.headers['content-security-policy']).toStartWith("default-src 'none'")
    expect(docs.text).not.toMatch(/<script|onerror|javascript:/i)
  })

  test('secrets stand nowhere: answers, documents, files, arguments', async () => {
    const secrets = [env.PORTICO_TOKEN, env.CANARY, gateway.token, key.key.split('_').slice(2).join('_')]
    const paths = [
      '/api/config',
      '/api/config/schema',
      '/api/plugins',
      '/api/keys',
      `/api/keys/${key.id}`,
      '/api/activity',
      '/api/v1/status',
      '/openapi.json',
      '/asyncapi.json',
      '/docs',
      '/metrics',
      '/auth/config',
      '/',
    ]
    const texts = await Promise.all(paths.map(async (path) => (await gateway.fetch(path)).text()))
    texts.push(
      await readFile(join(gateway.dataDir, 'run.json'), 'utf8'),
      await readFile(`/proc/${gateway.pid}/cmdline`, 'utf8'),
      gateway.stdout,
      gateway.stderr,
    )
    for (const secret of secrets) expect(texts.findIndex((text) => text.includes(secret))).toBe(-1)
    expect(texts.join()).not.toContain('argon2')
    const unseen = await send(gateway, '/api/keys/key_none', { headers: bearer(gateway.token) })
    for (const said of [unseen.text, (await send(gateway, '/nowhere')).text, (await send(gateway, '/health')).text])
      expect(said).not.toMatch(/\/tmp\/|\/dev\/shm|\/home\/|node_modules|select |\bat .*:\d+/i)
  })

  test('the data folder is its owner’s alone', async () => {
    expect((await stat(gateway.dataDir)).mode & 0o777).toBe(0o700)
    for (const name of ['cli.token', 'run.json']) expect((await stat(join(gateway.dataDir, name))).mode & 0o777).toBe(0o600)
    expect((await stat(join(gateway.dataDir, 'db'))).mode & 0o777).toBe(0o700)
    expect((await readdir(gateway.dataDir)).filter((name) => name.startsWith('.'))).toEqual([])
  })

  test('2,000 strangers at once are all told no, and leave nothing behind', async () => {
    const from = (n: number) => [`X-Forwarded-For: 10.0.${n >> 8}.${n & 255}`, `User-Agent: stranger-${n}`, `X-Request-Id: stranger-${n}`]
    const counts: Record<string, number> = {}
    for (const answer of await Promise.all(Array.from({ length: 2_000 }, (_, n) => wire(lines(`GET /api/keys?n=${n} HTTP/1.1`, ...from(n))))))
      counts[answer] = (counts[answer] ?? 0) + 1
    expect(counts).toEqual({ '401 missing_credentials': 2_000 })
    const metrics = await (await gateway.fetch('/metrics')).text()
    expect(metrics).not.toContain('stranger')
    expect(metrics).toMatch(/portico_requests_in_flight 1\n/)
    expect(await outcome(gateway, '/health')).toBe('200')
  }, 20_000)

  test('sixty wrong credentials of an address are enough, but keys that are in use go on', async () => {
    expect(await outcome(gateway, '/api/v1/auth/whoami', { headers: bearer(key.key) })).toBe('200')
    const answers: string[] = []
    for (let n = 0; n < 80; n++) answers.push(await outcome(gateway, '/api/v1/auth/whoami', { headers: bearer(`ptk_${n}`) }))
    expect(new Set(answers)).toEqual(new Set(['401 invalid_api_key', '429 rate_limit_exceeded']))
    expect(answers.at(-1)).toBe('429 rate_limit_exceeded')
    expect(await outcome(gateway, '/api/v1/auth/whoami', { headers: bearer(key.key) })).toBe('200')
  })

  test('a head that never ends is cut, where the runtime can: docs/operations.md says what to do where it cannot', async () => {
    if (runtime === 'deno') return
    const { how, ms } = await slowHead
    expect(how).toMatch(/^(closed|4\d\d)/)
    expect(ms).toBeLessThan(25_000)
  }, 30_000)
})
