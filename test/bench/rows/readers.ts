/** Event streams: how fast one event reaches many readers, and what a reader costs that gets none. */
import { freshGateway, withPlugins } from '../gateway.ts'
import { residentMb, startScript } from '../process.ts'
import type { Row } from '../row.ts'

const readers = 500
const events = 1_500
const idleReaders = 10_000
/** Longer than from one ping to the next. */
const settleMs = 18_000

export const fanOut: Row = {
  id: 'fan-out',
  figures: [
    {
      id: 'fan-out',
      title: `a live event to ${readers} readers of \`GET /api/events\`, against a raw server that enqueues the same bytes`,
      unit: 'frames/s',
      digits: 0,
      bound: { least: 0.8 },
      limit: 'on Deno its web streams, which are JavaScript: each frame is enqueued and read there, for the raw server as well.',
    },
  ],
  async prepare(scope, { runtime }) {
    const { url, key } = await freshGateway(scope, runtime, `${withPlugins('fan-out')}[gateway]\nmaxStreams = ${readers}\n`)
    const raw = await startScript(scope, runtime, './servers/raw-events.ts')
    const measure = async (stream: string, publish: string) => {
      await using own = new AsyncDisposableStack()
      const client = await startScript(own, 'bun', './clients/readers.ts', [stream, key, String(readers)])
      const ms = Number(await client.ask(`${events} ${publish}?count=${events}`))
      return [(events * readers * 1000) / ms]
    }
    return {
      baseline: () => measure(raw.firstLine, raw.firstLine),
      gateway: () => measure(`${url}/api/events?types=fan-out:*`, `${url}/fan-out`),
    }
  },
}

export const idle: Row = {
  id: 'idle-readers',
  rounds: 3,
  cold: true,
  figures: [
    {
      id: 'idle-readers',
      title: `${idleReaders.toLocaleString('en-US')} idle readers of \`GET /api/events\`: the memory they add, against a raw server that holds and pings as many`,
      unit: 'MB',
      digits: 0,
      bound: { most: 1.5 },
      limit:
        'closures: a reader is 4.9 kB of heap, in it 25 functions, 12 of their environments and 8 objects (5,000 readers, counted by the runtime). The rounds lie far apart: what Bun gives back in between is luck.',
    },
  ],
  async prepare(_, { runtime }) {
    const measure = async (scope: AsyncDisposableStack, pid: number, stream: string, key: string) => {
      await new Promise((resolve) => setTimeout(resolve, 2_000))
      const before = await residentMb(pid)
      await startScript(scope, 'bun', './clients/readers.ts', [stream, key, String(idleReaders)])
      await new Promise((resolve) => setTimeout(resolve, settleMs))
      return [(await residentMb(pid)) - before]
    }
    return {
      async baseline() {
        await using own = new AsyncDisposableStack()
        const raw = await startScript(own, runtime, './servers/raw-events.ts')
        return await measure(own, raw.pid, raw.firstLine, 'none')
      },
      async gateway() {
        await using own = new AsyncDisposableStack()
        const { pid, url, key } = await freshGateway(own, runtime, `[gateway]\nmaxStreams = ${idleReaders}\n`)
        return await measure(own, pid, `${url}/api/events`, key)
      },
    }
  },
}
