/** What the gateway holds in memory when nothing happens, and whether that grows when much does. */
import { join } from 'node:path'
import { freshGateway, startGateway, temporaryFolder, withPlugins, withUpstream } from '../gateway.ts'
import { residentMb, startScript } from '../process.ts'
import type { Row } from '../row.ts'

/** Until what a start leaves is settled. */
const settleMs = 3_000
const sampleMs = 500
/** The lowest sample of each span counts: between two collections of garbage memory rises and falls by more than a leak. */
const spans = 20

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const idleMemory: Row = {
  id: 'memory',
  rounds: 3,
  cold: true,
  figures: [
    {
      id: 'memory',
      title: 'memory of the idle gateway, against a process that only opens the same PGlite',
      unit: 'MB',
      digits: 0,
      bound: { most: 1.4 },
    },
  ],
  async prepare(scope, { runtime }) {
    const dataDir = await temporaryFolder(scope)
    await (await startGateway(runtime, dataDir)).stop()
    return {
      async baseline() {
        await using own = new AsyncDisposableStack()
        const { pid } = await startScript(own, runtime, './servers/open-pglite.ts', [join(dataDir, 'db', 'data')])
        await pause(settleMs)
        return [await residentMb(pid)]
      },
      async gateway() {
        const { pid, stop } = await startGateway(runtime, dataDir)
        await pause(settleMs)
        const mb = await residentMb(pid)
        await stop()
        return [mb]
      },
    }
  },
}

export const soak: Row = {
  id: 'soak',
  rounds: 1,
  cold: true,
  apart: true,
  figures: [
    {
      id: 'soak',
      title: 'growth of memory under mixed load (chat, streams, events, keys, errors), after the first sixth of the time',
      unit: 'MB/min',
      digits: 2,
      bound: { atMost: 1 },
    },
  ],
  async prepare(scope, { runtime, minutes }) {
    const upstream = await startScript(scope, 'bun', './servers/mock-upstream.ts')
    const { pid, url, createKey } = await freshGateway(scope, runtime, `${withPlugins('fan-out')}${withUpstream(upstream.firstLine)}`)
    const client = await startScript(scope, 'bun', './clients/mixed.ts', [url, await createKey(['admin'])])
    return {
      async gateway() {
        await pause((minutes / 6) * 60_000)
        const at = performance.now()
        const lasts = (minutes * 5) / 6
        const lowest: [minute: number, mb: number][] = []
        for (let minute = 0; minute < lasts; minute = (performance.now() - at) / 60_000) {
          if (client.isOver()) throw new Error('the client gave up; what it says stands above')
          const span = Math.floor((minute / lasts) * spans)
          const mb = await residentMb(pid)
          if (mb < (lowest[span]?.[1] ?? Number.POSITIVE_INFINITY)) lowest[span] = [minute, mb]
          await pause(sampleMs)
        }
        return [slope(lowest.filter((point) => point !== undefined))]
      },
    }
  },
}

/** Of the line with the least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (index: 0 | 1) => points.reduce((sum, point) => sum + point[index], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const along = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return along / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}
