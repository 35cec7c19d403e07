import { describe, expect, test } from 'bun:test'
import { contextOf, GatewayError, guard, open, type RequestContext, rpc, selfReporting, t } from 'portico'
import { as, principal, testHttp } from '../../test/fixtures/http.ts'

const throwing = (error: unknown) => () => {
  throw error
}

test('without a door or a gatekeeper nobody is answered', async () => {
  const { outcome, http } = await testHttp({ routes: [open((app) => app.get('/t/open', 'x')), guard(rpc, (app) => app.get('/t/guarded', 'x'))] })
  const outcomes = () => Promise.all(['/t/open', '/t/guarded', '/t/none'].map((path) => outcome(path, as('ann'))))
  expect(await outcomes()).toEqual(['200', '200', '404 not_found'])
  const { gatekeeper } = http
  http.gatekeeper = undefined
  const closed = ['503 unavailable', '503 unavailable', '503 unavailable']
  expect(await outcomes()).toEqual(closed)
  http.gatekeeper = gatekeeper
  http.door = undefined
  expect(await outcomes()).toEqual(closed)
})

describe('errors', () => {
  const fail = (error: unknown) =>
    open((app) =>
      app
        .get('/t/fail', throwing(error))
        .get('/t/reject', () => Promise.reject(error))
        .get('/t/later', async () => throwing(error)()),
    )
  const answers = async (error: unknown, isUnavailable?: (error: unknown) => boolean) => {
    const room = await testHttp({ routes: [fail(error)], isUnavailable })
    const all = await Promise.all(
      ['/t/fail', '/t/reject', '/t/later'].map(async (path) => {
        const response = await room.send(path, { headers: { 'x-request-id': 'r' } })
        return { status: response.status, body: (await response.json()) as any, headers: response.headers }
      }),
    )
    for (const { body } of all) expect(body).toEqual(all[0]!.body)
    return { ...all[0]!, faults: room.faults }
  }

  test('an unknown one is a 500 that tells nothing, and is reported three ways', async () => {
    const error = Object.assign(new Error('duplicate key in /srv/x/keys.ts: select * from keys'), {
      code: 'ENOENT',
      status: 418,
      toResponse: () => new Response('leak'),
    })
    const { status, body, faults } = await answers(error)
    expect(status).toBe(500)
    expect(body).toEqual({
      error: { code: 'internal_error', message: expect.not.stringContaining('keys'), type: 'server_error', requestId: 'r' },
    })
    expect(faults).toHaveLength(3)
    expect(faults[0]).toStartWith('test GET /t/fail: duplicate key')
  })

  test('anything may be thrown, and an error may be returned', async () => {
    for (const thrown of [undefined, null, 'text', 42, { status: 200, code: 404 }]) expect((await answers(thrown)).status).toBe(500)
    const { send } = await testHttp({
      routes: [
        open((app) =>
          app
            .get('/t/returned', () => new Error('secret'))
            .get('/t/typed', () => new TypeError('secret'))
            .get('/t/async', async () => new Error('secret')),
        ),
      ],
    })
    for (const path of ['/t/returned', '/t/typed', '/t/async']) {
      const response = await send(path)
      expect([response.status, (await response.text()).includes('secret')]).toEqual([500, false])
    }
  })

  test('a GatewayError speaks for itself, with its headers and Retry-After', async () => {
    const { status, body, headers } = await answers(
      new GatewayError('rate_limit_exceeded', 'Slow down.', {
        retryAfter: 2.2,
        param: 'model',
        details: { a: 1 },
        headers: { 'x-more': 'yes' },
        plugin: 'pager',
      }),
    )
    expect(status).toBe(429)
    expect(body.error).toEqual({
      code: 'rate_limit_exceeded',
      message: '[plugin pager] Slow down.',
      type: 'rate_limit_error',
      param: 'model',
      details: { a: 1 },
      requestId: 'r',
    })
    expect([headers.get('retry-after'), headers.get('x-more')]).toEqual(['3', 'yes'])
    expect((await answers(new GatewayError('unavailable', 'Later.'))).headers.get('retry-after')).toBe('1')
  })

  test('a lost database is 503', async () => {
    const lost = new Error('connect ECONNREFUSED')
    const { status, body, headers, faults } = await answers(lost, (error) => error === lost)
    expect([status, body.error.code, headers.get('retry-after'), faults.length]).toEqual([503, 'database_unavailable', '2', 0])
  })

  test('validation names the field, and never the schema’s or the answer’s inside', async () => {
    const { send, faults } = await testHttp({
      routes: [
        open((app) =>
          app
            .post('/t/:id', ({ body }) => body, {
              body: t.Object({ user: t.Object({ name: t.String({ minLength: 2 }) }) }),
              params: t.Object({ id: t.Number() }),
              query: t.Object({ limit: t.Optional(t.Number({ maximum: 5 })) }),
            })
            .get('/t/answer', () => ({ secret: 1 }) as never, { response: t.Object({ a: t.String() }) }),
        ),
      ],
    })
    const post = async (path: string, body: unknown) => {
      const response = await send(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
      return { status: response.status, ...((await response.json()) as any).error }
    }
    const good = { user: { name: 'ann' } }
    expect(await post('/t/1', { user: { name: 'a' } })).toMatchObject({
      status: 400,
      code: 'validation_failed',
      param: 'user.name',
      message: expect.stringContaining('body: user.name'),
    })
    expect(await post('/t/1', { ...good, extra: 1 })).toMatchObject({ param: 'extra' })
    expect(await post('/t/one', good)).toMatchObject({ status: 400, param: 'id', message: expect.stringContaining('path: id') })
    expect(await post('/t/1?limit=9', good)).toMatchObject({ status: 400, param: 'limit' })
    expect(await post('/t/1?limit=3', good)).toMatchObject({ status: 200 })
    const answer = await send('/t/answer')
    expect([answer.status, (await answer.text()).includes('secret')]).toEqual([500, false])
    expect(faults).toHaveLength(1)
  })

  test('a group may answer in its protocol’s own shape; a dialect that fails leaves the envelope', async () => {
    const { send, faults } = await testHttp({
      routes: [
        guard(rpc, (app) => app.get('/t/rpc', throwing(new GatewayError('conflict', 'No.'))), {
          dialect: ({ status, code }) => ({ jsonrpc: '2.0', error: { code: status, message: code } }),
        }),
        open((app) => app.get('/t/broken', throwing(new GatewayError('conflict', 'No.'))), { dialect: throwing(new Error('oops')) }),
      ],
    })
    const own = await send('/t/rpc', as('ann'))
    expect([own.status, await own.json()]).toEqual([409, { jsonrpc: '2.0', error: { code: 409, message: 'conflict' } } as any])
    expect(await (await send('/t/rpc')).json()).toMatchObject({ jsonrpc: '2.0', error: { code: 401 } })
    expect(await (await send('/t/broken')).json()).toMatchObject({ error: { code: 'conflict' } })
    expect(faults).toEqual(['test dialect: oops'])
  })
})

describe('finding', () => {
  const routes = [
    open((app) => app.get('/t/thing/:id', ({ params }) => params.id).post('/t/thing', () => 'made')),
    open((app) => app.get('/t/stream', () => new Response('data')), { stream: true }),
  ]

  test('404, 405 with Allow, OPTIONS, HEAD, and the index', async () => {
    const { send, outcome } = await testHttp({ routes })
    expect(await outcome('/t/none')).toBe('404 not_found')
    expect(await outcome('/t/thing/1', { method: 'DELETE' })).toBe('405 method_not_allowed')
    expect((await send('/t/thing/1', { method: 'DELETE' })).headers.get('allow')).toBe('GET, HEAD, OPTIONS')
    const options = await send('/t/thing', { method: 'OPTIONS' })
    expect([options.status, options.headers.get('allow')]).toEqual([204, 'POST, OPTIONS'])
    expect((await send('/t/thing/1/', {})).status).toBe(200)
    const head = await send('/t/thing/abc', { method: 'HEAD' })
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '3', ''])
  })

  test('the roots of a plugin that does not run answer 503; why is told at the machine only', async () => {
    const { send, http } = await testHttp({
      routes,
      entries: [{ state: 'failed', plugin: 'pager', paths: ['/pager'], reason: 'setup: no such file /srv/ann/x' }],
    })
    const local = await send('/pager/x')
    expect([local.status, local.headers.get('retry-after')]).toEqual([503, '5'])
    expect(await local.json()).toMatchObject({ error: { code: 'plugin_unavailable', message: expect.stringContaining('/srv/ann/x') } })
    expect(await (await send('/pager', { from: '10.0.0.1' })).text()).not.toContain('/srv/ann')
    http.table = (await testHttp()).http.table
    expect((await send('/pager')).status).toBe(404)
  })
})

describe('Host and Origin', () => {
  test('names of gateway.hosts are answered, with our port or without', async () => {
    const { http, outcome } = await testHttp({ routes: [open((app) => app.get('/t', 'x'))], config: { hosts: ['gw.example.com', 'other.example:8443'] } })
    http.setOrigin('192.168.1.5', 4766)
    const at = async (host: string) => {
      const response = await http.handle(new Request(`http://${host}/t`, { headers: { host } }), { address: '10.0.0.1' })
      return response.status
    }
    for (const host of ['gw.example.com', 'GW.example.com', 'gw.example.com:4766', 'other.example:8443', '192.168.1.5:4766', 'localhost:4766', '[::1]:4766'])
      expect(`${host} ${await at(host)}`).toBe(`${host} 200`)
    for (const host of ['gw.example.com:1', 'other.example', 'evil.example', '192.168.1.5', 'localhost', 'gw.example.com.evil.example'])
      expect(`${host} ${await at(host)}`).toBe(`${host} 403`)
    expect(await outcome('/t', { headers: { host: 'gw.example.com' } })).toBe('400 invalid_request')
  })

  test('the port of https may be left out where it is served', async () => {
    const { http } = await testHttp({ routes: [open((app) => app.get('/t', 'x'))] })
    const at = async (host: string) => (await http.handle(new Request(`https://${host}/t`, { headers: { host } }), { address: '10.0.0.1' })).status
    http.setOrigin('192.168.1.5', 443, true)
    expect([await at('localhost'), await at('localhost:443'), await at('192.168.1.5'), await at('evil.example')]).toEqual([200, 200, 200, 403])
    http.setOrigin('192.168.1.5', 443)
    expect(await at('localhost')).toBe(403)
  })

  test('CORS: listed origins get their headers, others are refused, a preflight needs no credential', async () => {
    const { send, outcome } = await testHttp({
      routes: [guard(rpc, (app) => app.get('/t', 'x').post('/t', () => 'x'))],
      config: { corsOrigins: ['https://app.example'] },
    })
    const origin = (value: string) => ({ headers: { ...as('ann').headers, origin: value } })
    const answer = await send('/t', origin('https://app.example'))
    expect([answer.status, answer.headers.get('access-control-allow-origin'), answer.headers.get('vary')]).toEqual([200, 'https://app.example', 'Origin'])
    const refused = await send('/t', { headers: { origin: 'https://app.example' } })
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, 'https://app.example'])
    for (const other of ['https://app.example.evil', 'http://app.example', 'null', 'https://evil.example'])
      expect(await outcome('/t', origin(other))).toBe('403 origin_not_allowed')
    const same = await send('/t', origin('http://127.0.0.1:4766'))
    expect([same.status, same.headers.get('access-control-allow-origin')]).toEqual([200, null])
    const preflight = await send('/t', {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' },
    })
    expect(Object.fromEntries(preflight.headers)).toMatchObject({
      'access-control-allow-origin': 'https://app.example',
      'access-control-allow-methods': 'GET, POST, HEAD, OPTIONS',
      'access-control-allow-headers': 'authorization',
    })
    expect([preflight.status, preflight.headers.has('access-control-allow-credentials')]).toEqual([204, false])
  })

  test('corsOrigins "*" lets every origin in', async () => {
    const { send } = await testHttp({ routes: [open((app) => app.get('/t', 'x'))], config: { corsOrigins: ['*'] } })
    for (const origin of ['https://any.example', 'null'])
      expect((await send('/t', { headers: { origin } })).headers.get('access-control-allow-origin')).toBe('*')
  })
})

describe('limits', () => {
  const routes = [guard(rpc, (app) => app.get('/t/limited', 'x')), guard(rpc, (app) => app.get('/t/free', 'x'), { unlimited: true })]

  test('are asked in turn, before access and after it, and may answer later; what they set shows. Unlimited groups are not asked about', async () => {
    const asked: string[] = []
    const note = (what: string) => async (context: RequestContext) => {
      await Bun.sleep(1)
      asked.push(`${what} ${context.principal.id}`)
      context.answerHeaders = { ...context.answerHeaders, [`x-${what}`]: 'yes' }
    }
    const { send, outcome } = await testHttp({ routes, requestLimits: [{ arrived: note('one'), admitted: note('two') }, { arrived: note('three') }] })
    const { status, headers } = await send('/t/limited', as('ann'))
    expect([status, headers.get('x-one'), headers.get('x-two'), headers.get('x-three')]).toEqual([200, 'yes', 'yes', 'yes'])
    expect((await send('/t/limited')).headers.get('x-one')).toBe('yes')
    expect(await outcome('/t/none')).toBe('404 not_found')
    expect(await outcome('/t/free', as('ann'))).toBe('200')
    const arrived = ['one anonymous', 'three anonymous']
    expect(asked).toEqual([...arrived, 'two ann', ...arrived, ...arrived])
  })

  test('one that refuses is heard, one that fails is a fault and no way in', async () => {
    const refuses = () => Promise.reject(new GatewayError('rate_limit_exceeded', 'Slow down.', { retryAfter: 7 }))
    const { send } = await testHttp({ routes, requestLimits: [{ arrived: refuses }] })
    const refused = await send('/t/limited', as('ann'))
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '7'])
    const { outcome, faults } = await testHttp({ routes, requestLimits: [{ admitted: throwing(new Error('no connection')) }] })
    expect(await outcome('/t/limited', as('ann'))).toBe('500 internal_error')
    expect(faults.join()).toContain('no connection')
  })

  test('of bodies: the smaller of the group’s and the gateway’s', async () => {
    const echo = (path: string) => (app: any) => app.post(path, async ({ request }: { request: Request }) => request.text())
    const { outcome } = await testHttp({ routes: [open(echo('/t/small'), { bodyLimit: 10 }), open(echo('/t/big'), { bodyLimit: 1e9 })] })
    const post = (size: number, from = '127.0.0.1') => ({ method: 'POST', body: 'x'.repeat(size), headers: { 'content-type': 'application/json' }, from })
    expect([await outcome('/t/small', post(10)), await outcome('/t/small', post(11))]).toEqual(['200', '413 body_too_large'])
    expect([await outcome('/t/big', post(1_000)), await outcome('/t/big', post(1_001))]).toEqual(['200', '413 body_too_large'])
    const stream = (size: number) => ({ ...post(1, ''), body: new Blob(['x'.repeat(size)]).stream(), duplex: 'half' }) as RequestInit & { from: string }
    expect([await outcome('/t/small', stream(10)), await outcome('/t/small', stream(11))]).toEqual(['200', '413 body_too_large'])
  })
})

describe('the head', () => {
  test('every answer has the request’s id; a shared Response is not changed', async () => {
    const shared = new Response(null, { status: 204 })
    const { send } = await testHttp({
      routes: [
        open((app) =>
          app
            .get('/t/shared', () => shared)
            .get('/t/static', new Response('s'))
            .get('/t/passed', () => fetch('data:,hello')),
        ),
      ],
      config: { corsOrigins: ['https://app.example'] },
    })
    const [one, two] = [
      await send('/t/shared', { headers: { 'x-request-id': 'one', origin: 'https://app.example' } }),
      await send('/t/shared', { headers: { 'x-request-id': 'two' } }),
    ]
    expect([one.headers.get('x-request-id'), two.headers.get('x-request-id')]).toEqual(['one', 'two'])
    expect(two.headers.has('access-control-allow-origin')).toBe(false)
    for (const path of ['/t/static', '/t/passed', '/t/none', '/']) expect((await send(path)).headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('a Response that was sent before, or an error that is no JSON, is answered all the same', async () => {
    const used = new Response('once')
    const circular: Record<string, unknown> = {}
    circular.self = circular
    const { send, faults, http } = await testHttp({
      routes: [open((app) => app.get('/t/used', () => used).get('/t/circular', throwing(new GatewayError('conflict', 'No.', { details: circular }))))],
    })
    expect(await (await send('/t/used')).text()).toBe('once')
    expect((await send('/t/used')).status).toBe(500)
    const answer = await send('/t/circular')
    expect([answer.status, ((await answer.json()) as any).error.code]).toEqual([409, 'conflict'])
    expect([faults.length, http.stats().gauges.requests_in_flight]).toEqual([2, 0])
  })

  test('an id or traceparent that is not well-formed is not taken over', async () => {
    const { send } = await testHttp({ routes: [open((app) => app.get('/t', ({ request }) => ({ trace: contextOf(request).traceparent })))] })
    const ask = async (headers: Record<string, string>) => {
      const response = await send('/t', { headers })
      return [response.headers.get('x-request-id'), ((await response.json()) as any).trace]
    }
    const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    expect(await ask({ 'x-request-id': 'a'.repeat(128), traceparent: trace })).toEqual(['a'.repeat(128), trace])
    for (const id of ['a'.repeat(129), 'a b', 'ä', '<x>'])
      expect((await ask({ 'x-request-id': encodeURIComponent(id) === id ? id : encodeURI(id) }))[0]).toMatch(/^[0-9a-f-]{36}$/)
    for (const wrong of ['00-0', trace.replace('00-0af', '00-0AF'), `00-${'0'.repeat(32)}-b7ad6b7169203331-01`])
      expect((await ask({ traceparent: wrong }))[1]).toBeUndefined()
  })

  test('a deadline answers 504, aborts the signal, and frees the stream that comes too late', async () => {
    const seen: string[] = []
    const late = open(
      (app) =>
        app.get('/t/late', async ({ signal }) => {
          signal.addEventListener('abort', () => seen.push((signal.reason as GatewayError).code))
          await Bun.sleep(250)
          return new Response(new ReadableStream({ cancel: () => void seen.push('cancelled') }))
        }),
      { deadline: 50 },
    )
    const { outcome, http } = await testHttp({ routes: [late] })
    expect(await outcome('/t/late')).toBe('504 deadline_exceeded')
    await Bun.sleep(250)
    expect(seen).toEqual(['deadline_exceeded', 'cancelled'])
    expect(http.stats().gauges.requests_in_flight).toBe(0)
  })

  test('contextOf refuses a request that did not come through the gateway', () => {
    expect(() => contextOf(new Request('http://x/'))).toThrow('did not come through the gateway')
  })
})

test('listeners hear of finished requests by template, and one that throws harms nobody', async () => {
  const records: any[] = []
  const { send, http, faults } = await testHttp({ routes: [guard(rpc, (app) => app.get('/t/:id', ({ params }) => params.id))] })
  http.onRequest(() => {
    throw new Error('listener')
  })
  const undo = http.onRequest((record) => records.push(record))
  await send('/t/1', as('ann'))
  await send('/t/2')
  await send('/none')
  undo()
  await send('/t/3')
  expect(records.map(({ method, route, status }) => `${method} ${route} ${status}`)).toEqual(['GET /t/:id 200', 'GET /t/:id 401', 'GET unmatched 404'])
  expect(records.every(({ seconds }) => seconds >= 0 && seconds < 1)).toBe(true)
  expect(faults).toHaveLength(4)
})

describe('a streamed answer', () => {
  const bytes = (text: string) => new TextEncoder().encode(text)
  const breaking = (error: unknown) =>
    new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(bytes('one '))
          controller.error(error)
        },
      },
      { highWaterMark: 0 },
    )
  const whole = () => new Blob(['whole']).stream()
  const sse = { headers: { 'content-type': 'text/event-stream' } }
  const read = (response: Response) =>
    response.text().then(
      (text) => text,
      (error: Error) => `broke: ${error.message}`,
    )

  test('that breaks is named with its plugin and route, and breaks for the client too', async () => {
    const { send, faults } = await testHttp({
      routes: [
        open((app) =>
          app
            .get('/t/lines/:id', () => new Response(breaking(new Error('boom')), { headers: { 'content-type': 'application/x-ndjson' } }))
            .get('/t/sse', () => new Response(breaking(new Error('boom')), sse))
            .get('/t/returned', () => breaking(new Error('boom')) as never),
        ),
        open((app) => app.get('/t/bare', () => new Response(breaking(new Error('boom')))), { stream: true }),
      ],
    })
    for (const path of ['/t/lines/1', '/t/sse', '/t/returned', '/t/bare']) expect(await read(await send(path))).toStartWith('broke: boom')
    expect(faults).toEqual(['/t/lines/:id', '/t/sse', '/t/returned', '/t/bare'].map((path) => `test GET ${path} stream: boom`))
  })

  test('that ends, that its client leaves, or that speaks of its own errors is no fault; head and bytes stay what they are', async () => {
    const log: string[] = []
    const endless = () => new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(bytes('x')), cancel: () => void log.push('cancelled') })
    const own = selfReporting(whole())
    const { send, faults } = await testHttp({
      routes: [
        open((app) =>
          app
            .get('/t/whole', () => new Response(whole(), { status: 201, headers: { 'content-type': 'text/event-stream', 'x-more': 'yes' } }))
            .get('/t/endless', () => new Response(endless(), sse))
            .get('/t/meant', () => new Response(breaking(new GatewayError('unavailable', 'The gateway stops.')), sse))
            .get('/t/branded', () => new Response(selfReporting(breaking(new Error('its own'))), sse))
            .get('/t/own', () => new Response(own, sse))
            .get('/t/bytes', () => new Response(bytes('bytes'))),
        ),
      ],
    })
    const answer = await send('/t/whole')
    expect([answer.status, answer.headers.get('x-more'), answer.headers.get('content-type'), await answer.text()]).toEqual([
      201,
      'yes',
      'text/event-stream',
      'whole',
    ])
    await (await send('/t/endless')).body?.cancel()
    expect(log).toEqual(['cancelled'])
    expect([await read(await send('/t/meant')), await read(await send('/t/branded'))]).toEqual(['broke: The gateway stops.', 'broke: its own'])
    expect((await send('/t/own')).body).toBe(own)
    expect(await read(await send('/t/bytes'))).toBe('bytes')
    expect(faults).toEqual([])
  })
})

describe('holds', () => {
  const holding = (kind: 'events' | 'work', log: string[]) =>
    guard(rpc, (app) => app.get(`/t/${kind}`, ({ request }) => void contextOf(request).hold(kind, (reason) => log.push(`${kind} ${reason}`))), { stream: true })

  test('event streams are capped per caller, work is not', async () => {
    const log: string[] = []
    const { outcome } = await testHttp({ routes: [holding('events', log), holding('work', log)] })
    expect([await outcome('/t/events', as('ann')), await outcome('/t/events', as('ann')), await outcome('/t/events', as('ann'))]).toEqual([
      '200',
      '200',
      '429 rate_limit_exceeded',
    ])
    expect(await outcome('/t/events', as('bob'))).toBe('200')
    for (let i = 0; i < 5; i++) expect(await outcome('/t/work', as('ann'))).toBe('200')
  })

  test('revoking ends those of one credential, once', async () => {
    const log: string[] = []
    const { outcome, http } = await testHttp({ routes: [holding('events', log), holding('work', log)] })
    await outcome('/t/events', as('ann'))
    await outcome('/t/work', as('ann'))
    await outcome('/t/events', as('bob'))
    http.revoke(principal('ann').via)
    http.revoke(principal('ann').via)
    expect(log).toEqual(['events revoked', 'work revoked'])
    expect(http.stats().gauges.streams_events).toBe(1)
  })

  test('revoking aborts the signal of a request that has no head yet', async () => {
    const waiting = guard(rpc, (app) =>
      app.get('/t/wait', ({ signal }) => new Promise<string>((resolve) => signal.addEventListener('abort', () => resolve('aborted')))),
    )
    const { send, http } = await testHttp({ routes: [waiting] })
    const answer = send('/t/wait', as('ann'))
    await Bun.sleep(1)
    http.revoke(principal('ann').via)
    expect(await (await answer).text()).toBe('aborted')
  })
})

describe('stopping', () => {
  test('the intake closes with 503 and Retry-After', async () => {
    const { send, http } = await testHttp({ routes: [open((app) => app.get('/t', 'x'))] })
    http.closeIntake()
    const response = await send('/t')
    expect([response.status, response.headers.get('retry-after'), response.headers.get('connection')]).toEqual([503, '5', 'close'])
  })

  test('drain waits for handlers and work, ends events at once', async () => {
    const log: string[] = []
    let finish = () => {}
    let release = () => {}
    const { send, http } = await testHttp({
      routes: [
        open((app) => app.get('/t/slow', () => new Promise<string>((resolve) => (finish = () => resolve('done'))))),
        open((app) => app.get('/t/events', ({ request }) => void contextOf(request).hold('events', (reason) => log.push(reason)))),
        open((app) =>
          app.get('/t/work', ({ request }) => {
            release = contextOf(request).hold('work', (reason) => log.push(`work ${reason}`))
          }),
        ),
      ],
    })
    const slow = send('/t/slow')
    await send('/t/events')
    await send('/t/work')
    http.closeIntake()
    let isDrained = false
    const drained = http.drain(5_000).then(() => (isDrained = true))
    expect(log).toEqual(['stopping'])
    finish()
    expect(await (await slow).text()).toBe('done')
    await Bun.sleep(5)
    expect(isDrained).toBe(false)
    release()
    await drained
    expect(log).toEqual(['stopping'])
  })

  test('at the deadline work is ended and what has not answered is aborted', async () => {
    const log: string[] = []
    const { send, http } = await testHttp({
      routes: [
        open((app) => app.get('/t/work', ({ request }) => void contextOf(request).hold('work', (reason) => log.push(`work ${reason}`)))),
        open((app) => app.get('/t/wait', ({ signal }) => new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))))),
      ],
    })
    await send('/t/work')
    const waiting = send('/t/wait')
    await http.drain(20)
    expect(log).toEqual(['work stopping'])
    expect((await waiting).status).toBe(503)
  })
})
