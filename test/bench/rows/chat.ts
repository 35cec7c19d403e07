/** What the gateway adds to a proxied chat completion: under load, and for a single caller. */
import { freshGateway, withUpstream } from '../gateway.ts'
import { type Load, load, startScript } from '../process.ts'
import type { Bench, Prepared, Row } from '../row.ts'

const body = JSON.stringify({ model: 'bench/mock', messages: [{ role: 'user', content: 'Give me a short answer.' }], temperature: 0.2 })

/** Raw proxy and gateway before the same mock upstream. */
export async function prepareProxies(scope: AsyncDisposableStack, { runtime }: Bench): Promise<{ raw: string; url: string; key: string }> {
  const upstream = await startScript(scope, 'bun', './servers/mock-upstream.ts')
  const { url, key } = await freshGateway(scope, runtime, withUpstream(upstream.firstLine))
  const raw = await startScript(scope, runtime, './servers/raw-proxy.ts', [`${upstream.firstLine}/chat/completions`])
  return { raw: raw.firstLine, url, key }
}

async function prepare(scope: AsyncDisposableStack, bench: Bench, connections: number, seconds: number, read: (result: Load) => number): Promise<Prepared> {
  const { raw, url, key } = await prepareProxies(scope, bench)
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const measure = async (origin: string) => [read(await load({ url: `${origin}/v1/chat/completions`, method: 'POST', connections, seconds, headers, body }))]
  return { baseline: () => measure(raw), gateway: () => measure(url) }
}

export const chatThroughput: Row = {
  id: 'chat',
  figures: [
    {
      id: 'chat',
      title: '`POST /v1/chat/completions`, against a raw server + `fetch` as a proxy before the same upstream, 64 connections',
      unit: 'requests/s',
      digits: 0,
      bound: { least: 0.75 },
      limit:
        'the main thread. It works twice as long for a request as the raw proxy’s (44 against 22 µs); what it adds is spread over some forty functions of 2 µs at most: context, door, gate, deadlines, the search for `model`, a signal of its own, headers both ways. On Deno a fifth of the whole is its `fetch`, most of which is JavaScript there.',
    },
  ],
  prepare: (scope, bench) => prepare(scope, bench, 64, 3, (result) => result.requestsPerSecond),
}

export const chatLatency: Row = {
  id: 'chat-latency',
  figures: [{ id: 'chat-latency', title: 'the same, 1 connection, median time to the whole answer', unit: 'ms', digits: 3, bound: { most: 1.65 } }],
  prepare: (scope, bench) => prepare(scope, bench, 1, 2, (result) => result.p50),
}
