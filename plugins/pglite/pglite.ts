/** PGlite in the data folder, in a worker thread behind a unix socket, so that a slow query never blocks the event loop and `pg` is the only driver. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { GatewayError, type Logger } from 'portico'
import type { DatabaseServer } from 'portico/plugins/database'
import type { WorkerInput } from './pglite-worker.ts'
import { takeWorker } from './workers.ts'

/** Where and how it runs; times in ms. */
export interface PgliteOptions {
  /** The gateway's folder. Whoever calls holds its lock: nobody else opens `<dataDir>/db`, and a dead gateway's socket there may be removed. */
  readonly dataDir: string
  readonly log: Logger
  /** See `WireOptions`. */
  readonly silenceMs: number
  /** How long one statement may run. */
  readonly stuckMs: number
  /** PostgreSQL's own page cache, in MB; the system's lies behind it. */
  readonly sharedBuffersMb: number
}

/** PGlite of one folder. */
export interface Pglite {
  readonly server: DatabaseServer
  /** Opens it, once. @throws GatewayError `database_unavailable` when it does not open; then it is over. */
  open(): Promise<void>
  /** Closes the database and ends the worker, within 5 s. Safe to call twice. */
  stop(): Promise<void>
}

const port = 5432
/** Bytes; `sun_path` holds 108. */
const longestPath = 100
/** ms before a worker that ended is replaced; twice as long after each that did not open. */
const [shortestPauseMs, longestPauseMs] = [500, 4_000]
/** Bytes; without space for a segment of its write-ahead log PostgreSQL ends itself, and does not open. */
const segment = 16 << 20
/** The PostgreSQL that PGlite is. */
const major = 18
/** ms that a worker gets to close the database; the kernel waits 5 s for a disposer. */
const closingMs = 4_500

/**
 * Makes its folder `<dataDir>/db`, of mode 0700, and decides where its socket lies. Nothing runs before `open`.
 * @throws GatewayError `conflict` when another major of PostgreSQL wrote what is there
 */
export async function createPglite({ dataDir, log, silenceMs, stuckMs, sharedBuffersMb }: PgliteOptions): Promise<Pglite> {
  const folder = await ownFolder(join(dataDir, 'db'))
  await refuseOtherMajor(folder)
  const socketName = `.s.PGSQL.${port}`
  const temporary = Buffer.byteLength(join(folder, socketName)) > longestPath ? await mkdtemp(join(tmpdir(), 'portico-')) : null
  const host = temporary ?? folder
  const socketPath = join(host, socketName)
  let stopping: Promise<void> | undefined
  let worker: Worker | undefined
  /** Settles when the worker has ended. */
  let ended: Promise<string> = Promise.resolve('')
  /** When the worker last answered; undefined while it opens. PGlite cannot cancel a statement: an endless one is ended with its worker. */
  let heard: number | undefined
  let pauseMs = shortestPauseMs
  const watch = setInterval(() => {
    if (heard === undefined) return
    if (performance.now() - heard > stuckMs) void worker?.terminate()
    else worker?.postMessage('well?')
  }, stuckMs / 4).unref()

  /** Serving, or failed. A worker that ends later (PGlite is WebAssembly: it can abort) is replaced; until then connections fail, which is a normal state. */
  async function start(): Promise<void> {
    const current = takeWorker()
    worker = current
    heard = undefined
    current.on('error', (error) => log.error('The embedded database failed', { error }))
    const said = new Promise<string | null>((resolve) =>
      current.on('message', (failure) => {
        if (failure !== null && heard !== undefined) log.error('The embedded database failed', { error: failure })
        heard = performance.now()
        resolve(failure)
      }),
    )
    ended = new Promise((resolve) => current.once('exit', () => resolve('its worker ended')))
    current.postMessage({ folder, socketPath, silenceMs, sharedBuffersMb } satisfies WorkerInput)
    const failure = await Promise.race([said, ended])
    void ended.then(() => setTimeout(startAgain, pauseMs).unref())
    if (failure === null) {
      pauseMs = shortestPauseMs
      return
    }
    pauseMs = Math.min(longestPauseMs, 2 * pauseMs)
    await current.terminate()
    throw new Error(await withSpace(failure))
  }

  /** PGlite says no more than that it failed. */
  async function withSpace(failure: string): Promise<string> {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize < segment ? `the disk of ${folder} is full (${failure})` : failure
  }

  function startAgain(): void {
    if (stopping !== undefined) return
    log.warn('The embedded database ended and is started again')
    start().catch((error) => log.error('The embedded database did not open', { error }))
  }

  async function end(): Promise<void> {
    clearInterval(watch)
    worker?.postMessage('stop')
    await Promise.race([ended, sleep(closingMs, undefined, { ref: false })])
    await worker?.terminate()
    if (temporary) await rm(temporary, { recursive: true, force: true })
  }

  const stop = () => {
    stopping ??= end()
    return stopping
  }

  return {
    server: { connection: { host, port, user: 'postgres', password: '', database: 'postgres', ssl: false }, socketPath },
    async open() {
      try {
        await start()
      } catch (cause) {
        await stop()
        throw didNotOpen(cause as Error)
      }
    },
    stop,
  }
}

/** A folder that is new, empty or already ours gets mode 0700; a stranger's keeps its own. */
async function ownFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const names = await readdir(folder)
  if (names.length === 0 || names.includes('created')) await chmod(folder, 0o700)
  return folder
}

/** One that is not whole is made anew by the worker. */
async function refuseOtherMajor(folder: string): Promise<void> {
  const written = (await readFile(join(folder, 'data', 'PG_VERSION'), 'utf8').catch(() => '')).trim()
  if (written === '' || written === String(major) || !(await readdir(folder)).includes('created')) return
  throw new GatewayError(
    'conflict',
    `The data folder was written by PostgreSQL ${written}; this Portico embeds ${major}. With the Portico that wrote it: portico backup FILE. Then here, on a new folder: portico restore FILE --yes --data-dir FOLDER`,
  )
}

function didNotOpen(cause: Error): GatewayError {
  const message = `The embedded database did not open: ${cause.message}. Look at the data folder's disk, or choose another folder with --data-dir.`
  return new GatewayError('database_unavailable', message, { cause })
}
