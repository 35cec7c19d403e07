/** What the Prometheus library keeps: the kernel's own numbers, the process, the event loop. */
import type { Kernel, KernelStats } from 'portico'
import { Counter, Gauge, Registry } from 'prom-client'
import type { Lag } from './lag.ts'

const mostStats = 500

/** What is shown. */
export interface RegistryOptions {
  readonly kernel: Pick<Kernel, 'version' | 'runtime' | 'startedAt'> & { stats(): KernelStats }
  readonly lag: Lag
}

/** Its numbers, read anew at each call. */
export interface Registered {
  text(): Promise<string>
}

/** Makes it. */
export function createRegistry({ kernel, lag }: RegistryOptions): Registered {
  const registry = new Registry()
  const registers = [registry]
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
  new Gauge({
    name: 'portico_event_loop_lag_seconds',
    help: 'How late the latest timer was',
    registers,
    collect() {
      this.set(lag.latest())
    },
  })
  new Gauge({
    name: 'portico_event_loop_lag_max_seconds',
    help: 'How late the latest of the timers since the last scrape was',
    registers,
    collect() {
      this.set(lag.takeHighest())
    },
  })

  const gauges = new Map<string, Gauge>()
  const counters = new Map<string, Counter>()

  return {
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
      return registry.metrics()
    },
  }
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
