/** PGlite in the data folder, in a worker thread behind a unix socket, so that a slow query never blocks the event loop and `pg` is the only driver. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { GatewayError } from '../contract/errors.ts'
import type { Logger } from '../contract/plugin.ts'
import { lockDataDir } from './lock.ts'
import type { WorkerInput } from './pglite-worker.ts'

/** A running PGlite. */
export interface Pglite {
  /** How `pg` connects. */
  readonly connection: { host: string; port: number; user: string; password: string; database: string; ssl: false }
  readonly socketPath: string
  /** Closes the database, ends the worker, lets the folder go. */
  stop(): Promise<void>
}

const port = 5432
/** Bytes; `sun_path` holds 108. */
const longestPath = 100
const workerFile = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './pglite-worker.ts' : './pglite-worker.js', import.meta.url).href)

/** A worker that compiles PGlite and waits for its folder. */
let warm: Worker | undefined

/** Starts the worker ahead of its folder, so that PGlite compiles while the rest of the gateway loads. The next `startPglite` takes it; unused, it ends within a minute. */
export function warmPglite(): void {
  if (warm) return
  const worker = new Worker(workerFile)
  const gone = () => {
    if (warm === worker) warm = undefined
  }
  worker.on('error', gone).on('exit', gone).unref()
  warm = worker
}

function takeWorker(): Worker {
  const worker = warm ?? new Worker(workerFile)
  warm = undefined
  worker.ref()
  return worker
}

/**
 * Starts PGlite in `<dataDir>/db`, which it locks: nobody opens it twice, and a dead gateway's socket may be removed.
 * `silenceMs`: see `WireOptions`; `stuckMs`: how long one statement may run.
 * @throws GatewayError `conflict` when another process has the folder, `database_unavailable` when it does not open
 */
export async function startPglite(dataDir: string, log: Logger, { silenceMs = 10_000, stuckMs = 60_000 } = {}): Promise<Pglite> {
  const folder = join(dataDir, 'db')
  const lock = await lockDataDir(folder)
  const socketName = `.s.PGSQL.${port}`
  const temporary = Buffer.byteLength(join(folder, socketName)) > longestPath ? await mkdtemp(join(tmpdir(), 'portico-')) : null
  const host = temporary ?? folder
  const input: WorkerInput = { folder, socketPath: join(host, socketName), silenceMs }
  const stopping = new AbortController()
  let worker: Worker
  /** When the worker last answered; undefined while it opens. PGlite cannot cancel a statement: an endless one is ended with its worker. */
  let heard: number | undefined
  const watch = setInterval(() => {
    if (heard === undefined) return
    if (performance.now() - heard > stuckMs) void worker.terminate()
    else worker.postMessage('well?')
  }, stuckMs / 4).unref()
  /** Serving, or failed. A worker that ends later (PGlite is WebAssembly: it can abort) is replaced; until then connections fail, which is a normal state. */
  let opened = open()

  async function open(): Promise<void> {
    worker = takeWorker()
    worker.postMessage(input)
    worker.on('error', (error) => log.error('The embedded database failed', { error }))
    heard = undefined
    const said = new Promise<string | null>((resolve) =>
      worker.on('message', (failure) => {
        heard = performance.now()
        resolve(failure)
      }),
    )
    const ended = new Promise<string>((resolve) => worker.once('exit', () => resolve('its worker ended')))
    const failure = await Promise.race([said, ended])
    void ended.then(() => stopping.signal.aborted || setTimeout(again, 500).unref())
    if (failure === null) return
    await worker.terminate()
    throw new Error(failure)
  }

  function again(): void {
    log.warn('The embedded database ended and is started again')
    opened = open()
    opened.catch((error) => log.error('The embedded database did not open', { error }))
  }

  async function stop(): Promise<void> {
    if (stopping.signal.aborted) return
    stopping.abort()
    clearInterval(watch)
    const ended = new Promise((resolve) => {
      worker.once('exit', resolve)
      setTimeout(resolve, 5_000).unref()
    })
    worker.postMessage('stop')
    await opened.then(() => ended).catch(() => {})
    await worker.terminate()
    if (temporary) await rm(temporary, { recursive: true, force: true })
    await lock.release()
  }

  try {
    await opened
  } catch (cause) {
    await stop()
    throw didNotOpen(cause as Error)
  }
  return { connection: { host, port, user: 'postgres', password: '', database: 'postgres', ssl: false }, socketPath: input.socketPath, stop }
}

function didNotOpen(cause: Error): GatewayError {
  const message = `The embedded database did not open: ${cause.message}. Look at the data folder's disk, or choose another folder with --data-dir.`
  return new GatewayError('database_unavailable', message, { cause })
}
