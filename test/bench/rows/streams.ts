/** Many model streams at the pace of a model: how soon the first token comes, and whether the stream stutters. */
import { startScript } from '../process.ts'
import type { Row } from '../row.ts'
import { prepareProxies } from './chat.ts'

const streams = 512
const seconds = 4
const limit =
  'reading: a proxy that does no more than read each chunk and pass it on takes as long, while the raw one never sees them (docs/decisions/0019). Deno’s web streams are JavaScript: there each piece costs several times as much.'
const first = (share: string) => `${streams} streams of 50 tokens/s at once: ${share} of the time to the first token, against the same raw proxy`

export const pacedStreams: Row = {
  id: 'streams',
  figures: [
    { id: 'streams-p50', title: first('median'), unit: 'ms', digits: 2, bound: { most: 1.3 }, limit },
    { id: 'streams-p95', title: first('95th percentile'), unit: 'ms', digits: 2, bound: { most: 1.3 }, limit },
    { id: 'streams-stalls', title: 'the same: gaps of more than 250 ms between two tokens', unit: '', digits: 0, bound: { over: 0 } },
    {
      id: 'streams-tokens',
      title: 'the same: tokens that arrive, beginning and end included',
      unit: 'tokens/s',
      digits: 0,
      bound: { least: 0.9 },
      limit: 'on Deno its web streams, which are JavaScript: 25,600 pieces a second fill the thread.',
    },
  ],
  async prepare(scope, bench) {
    const { raw, url, key } = await prepareProxies(scope, bench)
    const measure = async (origin: string) => {
      await using own = new AsyncDisposableStack()
      const client = await startScript(own, 'bun', './clients/streams.ts', [origin, key, String(streams), String(seconds)])
      const { p50, p95, stalls, tokensPerSecond } = JSON.parse(client.firstLine) as { p50: number; p95: number; stalls: number; tokensPerSecond: number }
      // Under the pace of the upstream the machine is full, and the times say little.
      return [p50, p95, stalls, tokensPerSecond]
    }
    return { baseline: () => measure(raw), gateway: () => measure(url) }
  },
}
