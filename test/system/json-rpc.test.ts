/** JSON-RPC 2.0 over a raw socket: the specification's own examples (§7), every error code, and what a connection may do. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { openRawSocket } from '../fixtures/raw-socket.ts'
import { until } from '../fixtures/until.ts'

const plugin = join(import.meta.dir, '../fixtures/plugins/json-rpc.ts')

/** What is sent, and what comes back: §7 of the specification, as it stands there. Undefined = nothing. */
const examples: [what: string, sent: string, answer: unknown][] = [
  ['positional parameters', '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', { jsonrpc: '2.0', result: 19, id: 1 }],
  ['positional parameters, the other way', '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', { jsonrpc: '2.0', result: -19, id: 2 }],
  ['named parameters', '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', { jsonrpc: '2.0', result: 19, id: 3 }],
  [
    'named parameters, in another order',
    '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
    { jsonrpc: '2.0', result: 19, id: 4 },
  ],
  ['a notification', '{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', undefined],
  ['a notification of what does not exist', '{"jsonrpc": "2.0", "method": "foobar"}', undefined],
  [
    'a method that does not exist',
    '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
    { jsonrpc: '2.0', error: { code: -32601, message: 'Method not found' }, id: '1' },
  ],
  [
    'invalid JSON',
    '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
    { jsonrpc: '2.0', error: { code: -32700, message: 'Parse error' }, id: null },
  ],
  ['an invalid request', '{"jsonrpc": "2.0", "method": 1, "params": "bar"}', { jsonrpc: '2.0', error: { code: -32600, message: 'Invalid Request' }, id: null }],
  [
    'a batch of invalid JSON',
    '[\n  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},\n  {"jsonrpc": "2.0", "method"\n]',
    { jsonrpc: '2.0', error: { code: -32700, message: 'Parse error' }, id: null },
  ],
  ['an empty batch', '[]', { jsonrpc: '2.0', error: { code: -32600, message: 'Invalid Request' }, id: null }],
  ['an invalid batch that is not empty', '[1]', [{ jsonrpc: '2.0', error: { code: -32600, message: 'Invalid Request' }, id: null }]],
  ['an invalid batch', '[1,2,3]', Array.from({ length: 3 }, () => ({ jsonrpc: '2.0', error: { code: -32600, message: 'Invalid Request' }, id: null }))],
  [
    'a batch',
    `[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]`,
    [
      { jsonrpc: '2.0', result: 7, id: '1' },
      { jsonrpc: '2.0', result: 19, id: '2' },
      { jsonrpc: '2.0', error: { code: -32600, message: 'Invalid Request' }, id: null },
      { jsonrpc: '2.0', error: { code: -32601, message: 'Method not found' }, id: '5' },
      { jsonrpc: '2.0', result: ['hello', 5], id: '9' },
    ],
  ],
  [
    'a batch of notifications',
    '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
    undefined,
  ],
]

const told = 'json-rpc-examples:told'
/** Events of 60 kB: more than the buffers of a connection hold. */
const large = 250

const call = (method: string, params?: unknown, id: unknown = 1) => JSON.stringify({ jsonrpc: '2.0', method, params, id })

/** Every other code, and where the specification leaves a choice. */
const codes: [sent: string | Uint8Array<ArrayBuffer>, code: number, message: string, why?: string][] = [
  [call('subtract', { minuend: 'x', subtrahend: 1 }), -32602, 'Invalid params', 'minuend'],
  [call('subtract', [1]), -32602, 'Invalid params', 'subtrahend'],
  [call('subtract', [1, 2, 3]), -32602, 'Invalid params', 'at most 2 places: minuend, subtrahend'],
  [call('subtract', { minuend: 1, subtrahend: 1, more: 1 }), -32602, 'Invalid params', 'more'],
  [call('fails.fault'), -32603, 'Internal error'],
  [call('fails.result'), -32603, 'Internal error'],
  [call('fails.json'), -32603, 'Internal error'],
  [call('fails.details'), -32603, 'Internal error'],
  [call('broken.schema'), -32601, 'Method not found'],
  [call('rpc.reserved'), -32601, 'Method not found'],
  [call('fails.conflict'), -32009, 'Conflict', 'It is taken.'],
  [call('fails.missing'), -32004, 'Not found', 'It is not there.'],
  [call('fails.away'), -32000, 'Server error', 'The database does not answer.'],
  [call('fails.late'), -32008, 'Deadline exceeded', 'It took too long.'],
  [call('admin.only'), -32001, 'Forbidden', 'needs the scope "admin"'],
  [call('sytem.describe'), -32601, 'Method not found', 'did you mean system.describe?'],
  ['{"method": "sum", "id": 1}', -32600, 'Invalid Request', 'jsonrpc'],
  ['{"jsonrpc": "2.0", "method": "sum", "id": {}}', -32600, 'Invalid Request', 'id'],
  ['{"jsonrpc": "2.0", "method": "sum", "params": 1, "id": 1}', -32600, 'Invalid Request', 'params'],
  [`[${Array.from({ length: 51 }, () => call('sum', [1])).join()}]`, -32600, 'Invalid Request', 'at most 50'],
  [new Uint8Array([1, 2, 3]), -32700, 'Parse error', 'binary'],
]

interface Client {
  readonly socket: WebSocket
  readonly got: any[]
  /** Sends, and gives the next answer: a marker sent after it says whether there was one. */
  ask(sent: string | Uint8Array<ArrayBuffer>): Promise<any>
  readonly closed: Promise<number>
}

async function open(gateway: GatewayProcess, key: string, query = ''): Promise<Client> {
  const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws${query}`, { headers: { authorization: `Bearer ${key}` } } as never)
  const got: any[] = []
  socket.onmessage = ({ data }) => void got.push(JSON.parse(data as string))
  const closed = new Promise<number>((resolve) => {
    socket.onclose = ({ code }) => resolve(code)
  })
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = reject
  })
  let markers = 0
  return {
    ...{ socket, got, closed },
    async ask(sent) {
      const before = got.length
      const marker = `marker-${++markers}`
      socket.send(sent)
      socket.send(call('sum', [], marker))
      await until(() => got.some(({ id }) => id === marker))
      return got.slice(before).find(({ id, method }) => id !== marker && method === undefined)
    },
  }
}

/** A client that sends one message, and reads nothing until it drinks: then what lies in the connection, to its end. */
async function openRaw(gateway: GatewayProcess, key: string, message: string): Promise<{ drink(): Promise<{ text: string; lastId: string | undefined }> }> {
  const client = await openRawSocket(gateway, '/ws', key)
  const { socket } = client
  client.send(message)
  await until(() => client.text.includes('"subscription"'))
  socket.pause()
  return {
    async drink() {
      socket.resume()
      // Deno says 1013 and waits for an answer; Bun ends the connection.
      await until(() => socket.closed || client.text.endsWith('too far behind'))
      socket.destroy()
      const { text } = client
      return { text, lastId: [...text.matchAll(/"id":"(\d+-\d+)"[^{}]*"data":{"n":\d+,"text":"x{60000}"}}/g)].at(-1)?.[1] }
    },
  }
}

/** An answer without what the server says besides. */
function bare(answer: any): any {
  if (Array.isArray(answer)) return answer.map(bare)
  return answer?.error ? { ...answer, error: { code: answer.error.code, message: answer.error.message } } : answer
}

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  const keys: Record<string, string> = {}
  beforeAll(async () => {
    const config = `plugins = [${JSON.stringify(plugin)}]\n[gateway]\nwsMessageRateLimit = { maxMessages = 300, windowMs = 60000 }\nwsHeartbeatMs = 250\n`
    gateway = await spawnGateway({ runtime, config })
    for (const scope of ['rpc', 'ws', 'api'])
      keys[scope] = (
        (await (
          await gateway.fetch('/api/keys', {
            method: 'POST',
            body: JSON.stringify({ name: scope, owner: scope, scopes: [scope] }),
            headers: { 'content-type': 'application/json' },
          })
        ).json()) as { key: string }
      ).key
  }, 60_000)
  afterAll(() => gateway?.stop())
  const client = (scope = 'rpc', query = '') => open(gateway, keys[scope] ?? '', query)

  test('the examples of the specification', async () => {
    const { ask, socket } = await client()
    for (const [what, sent, answer] of examples) expect([what, bare(await ask(sent))]).toEqual([what, answer])
    socket.close()
  })

  test('every error code says why; a fault of a method stays in the log', async () => {
    const { ask, socket } = await client()
    for (const [sent, code, message, why = ''] of codes) {
      const { error } = await ask(sent)
      expect([sent, error.code, error.message, error.data?.why ?? '']).toEqual([sent, code, message, expect.stringContaining(why)])
      expect(JSON.stringify(error)).not.toContain('secret inside')
    }
    await until(() => gateway.stderr.includes('rpcMethods.run'))
    expect(gateway.stderr).toMatch(/json-rpc-examples/)
    expect(gateway.stderr).toMatch(/broken\.schema/)
    expect(await ask(call('says.nothing'))).toEqual({ jsonrpc: '2.0', result: null, id: 1 })
    socket.close()
  })

  test('system.describe shows what the caller may call, also with the scope ws alone; other scopes are refused at the upgrade', async () => {
    for (const [scope, some, none] of [
      ['rpc', 'events.subscribe', 'admin.only'],
      ['ws', 'system.describe', 'events.subscribe'],
    ] as const) {
      const { ask, socket } = await client(scope)
      const { methods } = (await ask(call('system.describe'))).result
      const names = methods.map(({ name }: { name: string }) => name)
      expect(names).toContain(some)
      expect(names).not.toContain(none)
      expect(methods.find(({ name }: { name: string }) => name === 'system.describe')).toMatchObject({ params: { type: 'object' }, result: { type: 'object' } })
      socket.close()
    }
    expect(await client('api').catch(() => 'refused')).toBe('refused')
  })

  test('events are subscribed to, resumed from a cursor, and shown to those who may see them alone', async () => {
    const { ask, socket, got } = await client()
    const { subscription, cursor } = (await ask(call('events.subscribe', { types: ['message:*'] }))).result
    const chat = (scope: string, message: string) =>
      gateway.fetch('/api/chat', {
        method: 'POST',
        headers: { authorization: `Bearer ${keys[scope]}`, 'content-type': 'application/json' },
        body: JSON.stringify({ message, model: 'demo/echo', sessionKey: message }),
      })
    await gateway.fetch('/api/chat', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"message":"of another","model":"demo/echo"}' })
    await chat('rpc', 'mine')
    const events = (client: any[]) => client.filter(({ method }) => method === 'event').map(({ params }) => params)
    await until(() => events(got).some(({ type }) => type === 'message:sent'))
    expect(
      events(got)
        .map(({ type }) => type)
        .sort(),
    ).toEqual(['message:received', 'message:sent', 'message:streaming'])
    expect(events(got).find(({ type }) => type === 'message:received')).toEqual(
      expect.objectContaining({ subscription, id: expect.stringMatching(/^\d+-\d+$/), source: expect.any(String), time: expect.any(String) }),
    )
    expect(JSON.stringify(events(got))).not.toContain('of another')

    const later = await client()
    const again = (await later.ask(call('events.subscribe', { types: ['message:*'], since: cursor }))).result
    await until(() => events(later.got).length >= 2)
    expect(events(later.got).map(({ id }) => id)).toEqual(
      events(got)
        .filter(({ id }) => id)
        .map(({ id }) => id),
    )
    expect((await later.ask(call('events.unsubscribe', { subscription: again.subscription }))).result).toEqual({ ended: true })
    expect((await later.ask(call('events.unsubscribe', { subscription: again.subscription }))).result).toEqual({ ended: false })
    await chat('rpc', 'once-more')
    await until(() => events(got).filter(({ type }) => type === 'message:sent').length === 2)
    expect(events(later.got)).toHaveLength(2)
    expect((await later.ask(call('events.subscribe', { since: 'yesterday' }))).error).toMatchObject({ code: -32602 })
    for (let more = 0; more < 16; more++) await later.ask(call('events.subscribe', {}))
    expect((await later.ask(call('events.subscribe', {}))).error).toMatchObject({ code: -32029 })
    socket.close()
    later.socket.close()
  })

  test('the heartbeat is a notification', async () => {
    const { got, socket } = await client()
    await until(() => got.some(({ method, params, id }) => method === 'heartbeat' && typeof params.ts === 'number' && id === undefined))
    socket.close()
  })

  test('whoever is silent for a second, or asks for it, gets plain frames; whoever speaks does not', async () => {
    const frame = { event: 'session.started', data: { who: 'rpc' } }
    const plain = (got: any[]) => got.filter(({ event }) => event)
    const asked = await client('rpc', '?protocol=events')
    await until(() => plain(asked.got).length > 0)
    const [silent, speaks] = [await client(), await client()]
    await speaks.ask(call('sum', [1]))
    await until(() => plain(silent.got).length > 0)
    expect([plain(asked.got), plain(silent.got), plain(speaks.got)]).toEqual([[frame], [frame], []])
    for (const { socket } of [asked, silent, speaks]) socket.close()
  })

  test('too many messages, calls and bytes are refused, and the connection’s end ends its calls', async () => {
    const { socket, got, closed } = await client()
    for (let each = 0; each < 65; each++) socket.send(call('hangs', {}, each))
    await until(() => got.some(({ id, error }) => id === 64 && error?.code === -32029))
    for (let each = 0; each < 240; each++) socket.send(call('nothing', {}, 'many'))
    await until(() => got.some(({ id, error }) => id === null && error?.code === -32029))
    expect(got.find(({ id, error }) => id === null && error?.code === -32029).error.data).toEqual({
      why: expect.stringContaining('300 messages'),
      retryAfter: expect.any(Number),
    })
    socket.send('x'.repeat(1_100_000))
    expect(await closed).toBe(1009)
    const another = await client()
    expect((await another.ask(call('hanging'))).result).toBe(0)
    another.socket.close()
  })

  test('of a batch the answer comes before the events that it subscribed to', async () => {
    const { socket, got } = await client()
    socket.send(`[${call('events.subscribe', { types: [told] })},${call('tell', { from: 1, to: 1, bytes: 1 }, 2)}]`)
    await until(() => got.some(({ method }) => method === 'event'))
    const [answer, event] = got.filter((each) => Array.isArray(each) || each.method === 'event')
    expect(answer.map(({ id }: { id: number }) => id)).toEqual([1, 2])
    expect(event.params).toMatchObject({ subscription: answer[0].result.subscription, data: { n: 1 } })
    socket.close()
  })

  test('a cursor from beyond the log is a gap, and what happens from then on is told', async () => {
    const { ask, socket, got } = await client()
    const { subscription } = (await ask(call('events.subscribe', { types: [told], since: '9000000000000-0' }))).result
    await until(() => got.some(({ method }) => method === 'events.gap'))
    expect(got.find(({ method }) => method === 'events.gap').params).toEqual({ subscription, oldest: expect.stringMatching(/^1\d{12}-\d+$/) })
    await ask(call('tell', { from: 2, to: 2, bytes: 1 }))
    await until(() => got.some(({ method, params }) => method === 'event' && params.data.n === 2))
    socket.close()
  })

  test('who does not read is cut, and loses nothing; who reads gets what he missed at his pace, over one connection', async () => {
    const reader = await client()
    const { cursor } = (await reader.ask(call('events.subscribe', { types: ['nothing:*'] }))).result
    const sleeper = await openRaw(gateway, keys.rpc ?? '', call('events.subscribe', { types: [told] }))
    const numbers = ({ got }: Client) => got.filter(({ method }) => method === 'event').map(({ params }) => params.data.n as number)
    const all = Array.from({ length: large }, (_, n) => n + 3)
    const { got, ask, socket } = reader
    socket.send(call('tell', { from: 3, to: large + 2, bytes: 60_000 }, 'told'))
    await until(() => got.some(({ id, result }) => id === 'told' && result === null), { ms: 20_000 })

    await ask(call('events.subscribe', { types: [told], since: cursor }))
    await until(() => numbers(reader).at(-1) === large + 2)
    expect(numbers(reader)).toEqual(all)
    expect(socket.readyState).toBe(WebSocket.OPEN)

    const { text, lastId } = await sleeper.drink()
    const seen = [...text.matchAll(/"data":{"n":(\d+),"text":"x{60000}"}}/g)].map(([, n]) => Number(n))
    expect(seen.length).toBeLessThan(large)
    expect(seen).toEqual(all.slice(0, seen.length))
    got.length = 0
    await ask(call('events.subscribe', { types: [told], since: lastId }))
    await until(() => numbers(reader).at(-1) === large + 2)
    expect([...seen, ...numbers(reader)]).toEqual(all)
    socket.close()
  })

  test('a revoked key ends the connection', async () => {
    const made = await gateway.fetch('/api/keys', { method: 'POST', body: '{"name":"short"}', headers: { 'content-type': 'application/json' } })
    const { id, key } = (await made.json()) as { id: string; key: string }
    const { closed } = await open(gateway, key)
    await gateway.fetch(`/api/keys/${id}`, { method: 'DELETE' })
    expect(await closed).toBe(4001)
  })
})
