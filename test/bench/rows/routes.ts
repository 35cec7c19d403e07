/** Whether a request pays for routes that it does not ask. */
import { cpuSeconds, load, startScript } from '../process.ts'
import type { Row } from '../row.ts'

const many = { plugins: 60, routes: 1_000 }
const few = { plugins: 1, routes: 10 }
/** As many are asked on both sides: a handler that is seldom called is slow in itself, because the runtime has not compiled it yet. */
const asked = 10
const seconds = 3

export const routes: Row = {
  id: 'routes',
  figures: [
    {
      id: 'routes',
      title: `processor time per request with 1,000 routes of 60 plugins, against 10 routes of one; ${asked} routes are asked in turn, 32 connections`,
      unit: 'µs',
      digits: 1,
      bound: { most: 1.1 },
    },
  ],
  async prepare(scope, { runtime }) {
    const side = async ({ plugins, routes }: typeof many) => {
      const { firstLine: url, pid } = await startScript(scope, runtime, './servers/routes.ts', [String(plugins), String(routes)])
      // From all over the table, half of them with a parameter.
      const paths = Array.from({ length: asked }, (_, index) => {
        const n = Math.floor((index * routes) / asked) + (routes > asked ? index % 2 : 0)
        return `/bench-${n % plugins}/route-${n}${n % 2 === 0 ? '' : '/7'}`
      })
      return async () => {
        const before = await cpuSeconds(pid)
        const { requestsPerSecond } = await load({ url, connections: 32, seconds, paths })
        return [((await cpuSeconds(pid)) - before) / (requestsPerSecond * seconds * 1e-6)]
      }
    }
    return { baseline: await side(few), gateway: await side(many) }
  },
}
