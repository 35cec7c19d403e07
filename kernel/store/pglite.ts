/** PGlite in the data folder, in a worker thread behind a unix socket, so that a slow query never blocks the event loop and `pg` is the only driver. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { GatewayError } from '../contract/errors.ts'
import type { Logger } from '../contract/plugin.ts'
import { lockDataDir } from './lock.ts'
import type { WorkerInput, WorkerMessage } from './pglite-worker.ts'

/** A running PGlite. */
export interface Pglite {
  /** How `pg` connects. */
  readonly connection: { host: string; port: number; user: string; password: string; database: string; ssl: false }
  readonly socketPath: string
  /** Closes the database, ends the worker, lets the folder go. */
  stop(): Promise<void>
}

const port = 5432
/** `sun_path` holds 108 bytes; Deno fails at it. */
const longestPath = 100
const silenceMs = 10_000
const stopMs = 5_000

/**
 * Starts PGlite in `<dataDir>/db`, which it locks: nobody opens it twice, and the socket of a dead gateway can be removed.
 * @throws GatewayError `conflict` when another process has the folder, `database_unavailable` when it does not open
 */
export async function startPglite(dataDir: string, log: Logger): Promise<Pglite> {
  const folder = join(dataDir, 'db')
  const lock = await lockDataDir(folder)
  const name = `.s.PGSQL.${port}`
  const temporary = Buffer.byteLength(join(folder, name)) > longestPath ? await mkdtemp(join(tmpdir(), 'portico-')) : null
  const host = temporary ?? folder
  const input: WorkerInput = { folder, socketPath: join(host, name), silenceMs }
  let stopping = false
  let worker: Worker
  const free = async () => {
    if (temporary) await rm(temporary, { recursive: true, force: true })
    await lock.release()
  }

  /** A worker that died (PGlite is WebAssembly: it can abort) is started again; until then connections fail, which is a normal state. */
  async function run(): Promise<void> {
    worker = new Worker(new URL(import.meta.url.endsWith('.ts') ? './pglite-worker.ts' : './pglite-worker.js', import.meta.url), { workerData: input })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    worker.on('message', (said: WorkerMessage) => ('ready' in said ? resolve() : reject(new Error(said.failed))))
    worker.on('error', reject)
    worker.on('exit', () => reject(new Error('the worker ended')))
    await promise
    worker.on('exit', () => stopping || restart())
  }

  function restart(): void {
    log.error('The embedded database stopped; it is started again')
    setTimeout(() => stopping || run().catch((error) => (log.error('The embedded database did not open', { error }), restart())), 1_000)
  }

  try {
    await run()
  } catch (cause) {
    await worker!.terminate()
    await free()
    throw new GatewayError('database_unavailable', `The embedded database did not open: ${(cause as Error).message}. Look at the data folder's disk, or choose another folder with --data-dir.`, { cause })
  }
  return {
    connection: { host, port, user: 'postgres', password: '', database: 'postgres', ssl: false },
    socketPath: input.socketPath,
    async stop() {
      if (stopping) return
      stopping = true
      const ended = new Promise((resolve) => worker.once('exit', resolve))
      const timer = setTimeout(() => worker.terminate(), stopMs)
      worker.postMessage('stop')
      await ended
      clearTimeout(timer)
      await free()
    },
  }
}
