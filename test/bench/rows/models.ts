/** What a request costs before it reaches anything: routing, context, authentication, limits, the answer. */
import { freshGateway, withUpstream } from '../gateway.ts'
import { load, startScript } from '../process.ts'
import type { Row } from '../row.ts'

export const models: Row = {
  id: 'models',
  figures: [
    {
      id: 'models',
      title: '`GET /v1/models` with a key, against a raw server that answers the same bytes, 32 connections',
      unit: 'requests/s',
      digits: 0,
      bound: { least: 0.65 },
      limit: 'the runtime’s own calls: a server that only reads the URL and five headers and sets one on the answer reaches 0.68 (docs/decisions/0020).',
    },
  ],
  async prepare(scope, { runtime }) {
    const upstream = await startScript(scope, 'bun', './servers/mock-upstream.ts')
    const { url, key } = await freshGateway(scope, runtime, withUpstream(upstream.firstLine))
    const headers = { authorization: `Bearer ${key}` }
    const answer = await fetch(`${url}/v1/models`, { headers })
    if (!answer.ok) throw new Error(`GET /v1/models: ${answer.status} ${await answer.text()}`)
    const raw = await startScript(scope, runtime, './servers/same-bytes.ts', [await answer.text()])
    const measure = async (origin: string) => [(await load({ url: `${origin}/v1/models`, connections: 32, seconds: 3, headers })).requestsPerSecond]
    return { baseline: () => measure(raw.firstLine), gateway: () => measure(url) }
  },
}
