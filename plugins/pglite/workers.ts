/** The worker threads PGlite runs in. Needs nothing of the gateway, so that the first one may start before it. */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

const file = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './pglite-worker.ts' : './pglite-worker.js', import.meta.url).href)

/** A worker that compiles PGlite and waits for its folder. */
let warm: Worker | undefined

/** Starts a worker ahead of its folder, so that PGlite compiles while the rest of the gateway loads. The next `takeWorker` gets it; unused, it ends within a minute. */
export function warmWorker(): void {
  if (warm) return
  const worker = new Worker(file)
  const gone = () => {
    if (warm === worker) warm = undefined
  }
  worker.on('error', gone).on('exit', gone).unref()
  warm = worker
}

/** A worker that waits for its `WorkerInput`. */
export function takeWorker(): Worker {
  const worker = warm ?? new Worker(file)
  warm = undefined
  worker.ref()
  return worker
}
