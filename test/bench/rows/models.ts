/** What a request costs before it reaches anything: routing, context, authentication, limits, the answer. */
import { gatewayBefore } from '../gateway.ts'
import { load, startServer } from '../process.ts'
import type { Row } from '../row.ts'

export const models: Row = {
  id: 'models',
  title: '`GET /v1/models` with a key, against a raw `Bun.serve` that answers the same bytes, 32 connections',
  unit: 'requests/s',
  digits: 0,
  bound: { least: 0.6 },
  async prepare(scope) {
    const upstream = await startServer(scope, 'mock-upstream.ts')
    const { url, key } = await gatewayBefore(scope, upstream.firstLine)
    const headers = { authorization: `Bearer ${key}` }
    const answer = await fetch(`${url}/v1/models`, { headers })
    if (!answer.ok) throw new Error(`GET /v1/models: ${answer.status} ${await answer.text()}`)
    const raw = await startServer(scope, 'same-bytes.ts', [await answer.text()])
    const measure = async (origin: string) => (await load({ url: `${origin}/v1/models`, connections: 32, seconds: 3, headers })).requestsPerSecond
    return { baseline: () => measure(raw.firstLine), gateway: () => measure(url) }
  },
}
