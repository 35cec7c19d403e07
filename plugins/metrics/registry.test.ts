import { afterEach, describe, expect, test } from 'bun:test'
import type { KernelStats } from 'portico'
import { parsePrometheus } from '../../test/fixtures/prometheus.ts'
import { createMetrics, type Metrics } from './metrics.ts'

let metrics: Metrics | undefined
afterEach(() => metrics?.stop())

function start(stats: () => KernelStats = () => ({ gauges: {}, counters: {} })): Metrics {
  metrics = createMetrics({ stats, version: '1.2.3', runtime: 'bun 1.4.5', startedAt: 1_000 })
  return metrics
}

describe('the metrics', () => {
  test('count finished requests by route template, method and status', async () => {
    const it = start()
    for (const status of [200, 200, 404]) it.observe({ method: 'GET', route: '/v1/models/:id', status, seconds: 0.02 })
    const families = parsePrometheus(await it.text())
    expect(families.get('portico_http_requests_total')?.samples.map(({ labels, value }) => [labels.route, labels.status, value])).toEqual([
      ['/v1/models/:id', '200', 2],
      ['/v1/models/:id', '404', 1],
    ])
    expect(families.get('portico_http_request_duration_seconds')?.samples.find(({ name }) => name.endsWith('_count'))?.value).toBe(3)
  })

  test('put each duration into its bucket, cumulated, whatever characters the route has', async () => {
    const it = start()
    for (const seconds of [0.001, 0.002, 0.05, 1_000]) it.observe({ method: 'GET', route: '/a"b\\c', status: 200, seconds })
    const samples = parsePrometheus(await it.text()).get('portico_http_request_duration_seconds')?.samples ?? []
    const upTo = (le: string) => samples.find(({ labels }) => labels.le === le)?.value
    expect(['0.001', '0.005', '0.01', '0.05', '300', '+Inf'].map(upTo)).toEqual([1, 2, 2, 3, 3, 4])
    expect(samples.find(({ name }) => name.endsWith('_sum'))?.value).toBeCloseTo(1000.053)
    expect(samples[0]?.labels.route).toBe('/a\\"b\\\\c')
  })

  test('show the kernel’s gauges and counters as they are at each scrape', async () => {
    let n = 1
    const it = start(() => ({ gauges: { sseReaders: n, 'pool.idle': 2 }, counters: { published: n * 10, faults_total: 0 } }))
    await it.text()
    n = 2
    const families = parsePrometheus(await it.text())
    const value = (name: string) => families.get(name)?.samples[0]?.value
    expect(value('portico_sse_readers')).toBe(2)
    expect(value('portico_pool_idle')).toBe(2)
    expect(value('portico_published_total')).toBe(20)
    expect(families.get('portico_faults_total')?.type).toBe('counter')
  })

  test('show the process and how late the event loop was', async () => {
    const it = start()
    await new Promise((resolve) => setTimeout(resolve, 10))
    const until = performance.now() + 700
    while (performance.now() < until) {}
    await new Promise((resolve) => setTimeout(resolve, 20))
    const families = parsePrometheus(await it.text())
    expect(families.get('portico_event_loop_lag_max_seconds')?.samples[0]?.value).toBeGreaterThan(0.1)
    expect(families.get('process_resident_memory_bytes')?.samples[0]?.value).toBeGreaterThan(1e6)
    expect(families.get('process_cpu_seconds_total')?.samples[0]?.value).toBeGreaterThan(0.1)
  })

  test('have bounded labels, whatever methods and routes come', async () => {
    const it = start()
    for (let n = 0; n < 5_000; n++) it.observe({ method: n % 2 ? 'GET' : `X${n}`, route: `/r${n}`, status: 200, seconds: 0 })
    const samples = parsePrometheus(await it.text()).get('portico_http_requests_total')?.samples ?? []
    expect(samples.length).toBeLessThanOrEqual(2_001)
    expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe(5_000)
    expect(new Set(samples.map(({ labels }) => labels.method))).toEqual(new Set(['GET', 'OTHER']))
  })
})

test('the reader of the tests bites', () => {
  for (const wrong of [
    'a 1',
    'a 1\n',
    '# HELP a x\n# TYPE a gauge\na{b="c} 1\n',
    '# HELP a x\n# TYPE a counter\na 1\n',
    '# HELP a x\n# TYPE a gauge\na 1\na 1\n',
  ]) {
    expect(() => parsePrometheus(wrong)).toThrow()
  }
})
