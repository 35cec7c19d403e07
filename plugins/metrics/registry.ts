/** What `/metrics` says: requests by route template, the kernel's own numbers, the process, the event loop. Every label set is bounded. */

import type { Kernel } from 'portico'
import { Counter, Gauge, Registry } from 'prom-client'
import { createRequestCounts, type Observed } from './requests.ts'

const mostStats = 500
const lagEvery = 500

/** The metrics of a gateway. */
export interface Metrics {
  readonly contentType: string
  /** The Prometheus text format, 0.0.4. */
  text(): Promise<string>
  observe(record: Observed): void
  stop(): void
}

/** Starts measuring. */
export function createMetrics(kernel: Pick<Kernel, 'stats' | 'version' | 'runtime' | 'startedAt'>): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const requests = createRequestCounts()
  new Gauge({ name: 'portico_info', help: 'Version and runtime', labelNames: ['version', 'runtime'], registers }).set(
    { version: kernel.version, runtime: kernel.runtime },
    1,
  )
  new Gauge({ name: 'process_start_time_seconds', help: 'When the gateway started, in seconds since the epoch', registers }).set(kernel.startedAt / 1000)
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory',
    registers,
    collect() {
      this.set(process.memoryUsage().rss)
    },
  })
  new Gauge({
    name: 'process_heap_bytes',
    help: 'Heap in use',
    registers,
    collect() {
      this.set(process.memoryUsage().heapUsed)
    },
  })
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'User and system CPU time',
    registers,
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc((user + system) / 1e6)
    },
  })
  const lag = measureLag(registers)

  const gauges = new Map<string, Gauge>()
  const counters = new Map<string, Counter>()

  return {
    contentType: registry.contentType,
    observe: requests.observe,
    async text() {
      const stats = kernel.stats()
      for (const [name, value] of Object.entries(stats.gauges)) {
        memo(gauges, name, () => new Gauge({ name: toName(name), help: `Of the kernel: ${toWords(name)}`, registers }))?.set(value)
      }
      for (const [name, value] of Object.entries(stats.counters)) {
        const counter = memo(
          counters,
          name,
          () => new Counter({ name: `${toName(name).replace(/_total$/, '')}_total`, help: `Of the kernel: ${toWords(name)}`, registers }),
        )
        counter?.reset()
        counter?.inc(value)
      }
      return `${await registry.metrics()}\n${requests.text()}`
    },
    stop: lag.stop,
  }
}

/** A timer of our own, since the library's measure is blind on Deno. */
function measureLag(registers: Registry[]): { stop(): void } {
  let due = performance.now() + lagEvery
  let latest = 0
  let highest = 0
  const timer = setInterval(() => {
    const now = performance.now()
    latest = Math.max(0, now - due) / 1000
    highest = Math.max(highest, latest)
    due = now + lagEvery
  }, lagEvery)
  timer.unref()
  new Gauge({
    name: 'portico_event_loop_lag_seconds',
    help: 'How late the latest timer was',
    registers,
    collect() {
      this.set(latest)
    },
  })
  new Gauge({
    name: 'portico_event_loop_lag_max_seconds',
    help: 'How late the latest of the timers since the last scrape was',
    registers,
    collect() {
      this.set(highest)
      highest = 0
    },
  })
  return { stop: () => clearInterval(timer) }
}

function memo<T>(map: Map<string, T>, key: string, make: () => T): T | undefined {
  const known = map.get(key)
  if (known !== undefined || map.size >= mostStats) return known
  const made = make()
  map.set(key, made)
  return made
}

function toWords(name: string): string {
  return name
    .replace(/[^A-Za-z0-9]+/g, ' ')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
}

function toName(name: string): string {
  return `portico_${toWords(name).trim().replaceAll(' ', '_')}`
}
