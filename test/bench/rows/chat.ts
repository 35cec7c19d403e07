/** What the gateway adds to a proxied chat completion: under load, and for a single caller. */
import { gatewayBefore } from '../gateway.ts'
import { type Load, load, startServer } from '../process.ts'
import type { Prepared, Row } from '../row.ts'

const body = JSON.stringify({ model: 'bench/mock', messages: [{ role: 'user', content: 'Give me a short answer.' }], temperature: 0.2 })

async function prepare(scope: AsyncDisposableStack, connections: number, seconds: number, read: (result: Load) => number): Promise<Prepared> {
  const upstream = await startServer(scope, 'mock-upstream.ts')
  const { url, key } = await gatewayBefore(scope, upstream.firstLine)
  const raw = await startServer(scope, 'raw-proxy.ts', [`${upstream.firstLine}/chat/completions`])
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const measure = async (origin: string) => read(await load({ url: `${origin}/v1/chat/completions`, method: 'POST', connections, seconds, headers, body }))
  return { baseline: () => measure(raw.firstLine), gateway: () => measure(url) }
}

export const chatThroughput: Row = {
  id: 'chat',
  title: '`POST /v1/chat/completions`, against a raw `Bun.serve` + `fetch` proxy before the same upstream, 64 connections',
  unit: 'requests/s',
  digits: 0,
  bound: { least: 0.7 },
  prepare: (scope) => prepare(scope, 64, 3, (result) => result.requestsPerSecond),
}

export const chatLatency: Row = {
  id: 'chat-latency',
  title: 'the same, 1 connection, median time to the whole answer',
  unit: 'ms',
  digits: 3,
  bound: { most: 1.8 },
  prepare: (scope) => prepare(scope, 1, 2, (result) => result.p50),
}
