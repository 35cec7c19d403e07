/** Counts finished requests, and how long they took, in the Prometheus text format 0.0.4. Beside the library, because this runs for every request: its label look-up alone costs as much as all of this. */
import type { RequestRecord } from 'portico'

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'WS'])
const bounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300]
const mostSeries = 2_000

interface Series {
  readonly method: string
  readonly route: string
  readonly statuses: Map<number, number>
  /** Observations up to each bound and above the one before; the last is above all. */
  readonly buckets: number[]
  seconds: number
}

/** What of a finished request is counted. */
export type Observed = Pick<RequestRecord, 'method' | 'route' | 'status' | 'seconds'>

/** The counts of a gateway. */
export interface RequestCounts {
  observe(record: Observed): void
  text(): string
}

/** Starts at zero. Label sets are bounded: what comes beyond is counted under `other`. */
export function createRequestCounts(): RequestCounts {
  const routes = new Map<string, Map<string, Series>>()
  let size = 0

  function seriesOf(method: string, route: string): Series {
    const known = routes.get(route)?.get(method)
    if (known) return known
    if (size >= mostSeries && route !== 'other') return seriesOf('OTHER', 'other')
    const made = { method, route, statuses: new Map(), buckets: new Array(bounds.length + 1).fill(0), seconds: 0 }
    const ofRoute = routes.get(route) ?? new Map<string, Series>()
    routes.set(route, ofRoute.set(method, made))
    return made
  }

  return {
    observe({ method, route, status, seconds }) {
      const series = seriesOf(methods.has(method) ? method : 'OTHER', route)
      const count = series.statuses.get(status)
      if (count === undefined) size++
      series.statuses.set(status, (count ?? 0) + 1)
      let bucket = 0
      while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket++
      series.buckets[bucket] = (series.buckets[bucket] as number) + 1
      series.seconds += seconds
    },
    text() {
      const all = [...routes.values()].flatMap((series) => [...series.values()])
      const counters = all.flatMap((series) =>
        [...series.statuses].map(([status, count]) => `portico_http_requests_total{${labels(series)},status="${status}"} ${count}`),
      )
      const name = 'portico_http_request_duration_seconds'
      const durations = all.flatMap((series) => {
        let sum = 0
        const buckets = series.buckets.map((count, index) => {
          sum += count
          return `${name}_bucket{${labels(series)},le="${bounds[index] ?? '+Inf'}"} ${sum}`
        })
        return [...buckets, `${name}_sum{${labels(series)}} ${series.seconds}`, `${name}_count{${labels(series)}} ${sum}`]
      })
      return [
        ...[
          '# HELP portico_http_requests_total Finished requests by method, route template and status',
          '# TYPE portico_http_requests_total counter',
          ...counters,
        ],
        ...[`# HELP ${name} Seconds from the request to the head of its answer, by method and route template`, `# TYPE ${name} histogram`, ...durations, ''],
      ].join('\n')
    },
  }
}

function labels({ method, route }: Series): string {
  const escaped = route.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
  return `method="${method}",route="${escaped}"`
}
