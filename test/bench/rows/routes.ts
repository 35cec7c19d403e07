/** Whether a request pays for routes that it does not ask. */
import { load, startScript } from '../process.ts'
import type { Row } from '../row.ts'

const many = { plugins: 60, routes: 1_000 }
const few = { plugins: 1, routes: 10 }

export const routes: Row = {
  id: 'routes',
  figures: [
    {
      id: 'routes',
      title: 'time per request with 1,000 routes of 60 plugins, all of them asked in turn, against 10 routes of one; 32 connections',
      unit: 'µs',
      digits: 1,
      bound: { most: 1.1 },
    },
  ],
  async prepare(scope, { runtime }) {
    const side = async ({ plugins, routes }: typeof many) => {
      const server = await startScript(scope, runtime, './servers/routes.ts', [String(plugins), String(routes)])
      const paths = Array.from({ length: routes }, (_, n) => `/bench-${n % plugins}/route-${n}${n % 2 === 0 ? '' : '/7'}`)
      return async () => [1e6 / (await load({ url: server.firstLine, connections: 32, seconds: 3, paths })).requestsPerSecond]
    }
    return { baseline: await side(few), gateway: await side(many) }
  },
}
