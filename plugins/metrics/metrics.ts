/** What `/metrics` says: requests by route template, the kernel's own numbers, the process, the event loop. Every label set is bounded. */
import { measureLag } from './lag.ts'
import type { Registered, RegistryOptions } from './registry.ts'
import { createRequestCounts, type Observed } from './requests.ts'

/** The media type of `text()`. */
export const contentType = 'text/plain; version=0.0.4; charset=utf-8'

/** The metrics of a gateway. */
export interface Metrics {
  /** The Prometheus text format, 0.0.4. */
  text(): Promise<string>
  observe(record: Observed): void
  stop(): void
}

/** Starts measuring. */
export function createMetrics(kernel: RegistryOptions['kernel']): Metrics {
  const requests = createRequestCounts()
  const lag = measureLag()
  let registered: Promise<Registered> | undefined
  return {
    observe: requests.observe,
    async text() {
      // Loaded at the first scrape: a start has other things to do.
      registered ??= import('./registry.ts').then(({ createRegistry }) => createRegistry({ kernel, lag }))
      return `${await (await registered).text()}\n${requests.text()}`
    },
    stop: lag.stop,
  }
}
