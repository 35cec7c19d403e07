/** What other plugins, and tests, may use of metrics: all numbers there are. */
import type { Kernel, KernelStats } from 'portico'

/** The numbers of the kernel and of all plugins, as they are now. */
export function readStats(kernel: Pick<Kernel, 'plugins' | 'statSources'>): KernelStats {
  const sources = kernel.statSources().map(read)
  const states: Record<string, number> = {}
  for (const { state } of kernel.plugins()) states[`plugins_${state}`] = (states[`plugins_${state}`] ?? 0) + 1
  return {
    gauges: Object.assign({}, ...sources.map(({ gauges }) => gauges), states),
    counters: Object.assign({}, ...sources.map(({ counters }) => counters)),
  }
}

/** What a source throws is reported by its slot; the others' numbers are shown. */
function read(source: () => KernelStats): KernelStats {
  try {
    return source()
  } catch {
    return { gauges: {}, counters: {} }
  }
}
