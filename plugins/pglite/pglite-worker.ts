/**
 * The worker thread: opens PGlite in the folder it is told first, and serves it on a unix socket. Started by workers.ts, told by pglite.ts, whose caller holds the data folder's lock.
 * Told `stop` it closes and ends; told anything else it answers.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parentPort } from 'node:worker_threads'
import { gunzipSync } from 'node:zlib'
import type { PGlite } from '@electric-sql/pglite'
import { createWireServer } from './wire.ts'

/** What pglite.ts tells the worker first. */
export interface WorkerInput {
  /** Holds `data`, PGlite's own folder, and `created`, which says that it is whole. */
  readonly folder: string
  readonly socketPath: string
  /** See `WireOptions`. */
  readonly silenceMs: number
  /** See `PgliteOptions`. */
  readonly sharedBuffersMb: number
}

// Compiling takes as long as opening, and needs neither the library's own code nor a folder: a warm worker has done it when it is told one.
const compiled = readFile(fileURLToPath(new URL('./pglite.wasm', import.meta.resolve('@electric-sql/pglite')).href)).then((bytes) => WebAssembly.compile(bytes))
const library = import('@electric-sql/pglite')
const unused = setTimeout(() => process.exit(0), 60_000)
const { folder, socketPath, silenceMs, sharedBuffersMb } = await new Promise<WorkerInput>((resolve) => parentPort?.once('message', resolve))
clearTimeout(unused)
const parameters = { server_version: '18.3', client_encoding: 'UTF8', DateStyle: 'ISO, MDY', TimeZone: 'UTC', standard_conforming_strings: 'on' }

/** The message Sync. */
const sync = Buffer.from([0x53, 0, 0, 0, 4])
/** Says that it is well, or why not. */
const say = (failure?: unknown) => parentPort?.postMessage(failure ? String(failure) : null)

try {
  const database = await open()
  // pglite.ts starts another worker.
  const died = (reason: unknown) => {
    say(reason)
    process.exit(1)
  }
  let answer: Uint8Array[] = []
  // From now on all answers come here: without a receiver the library parses each, and keeps what it has parsed for ever.
  await database.execProtocolRawStream(sync, { syncToFs: false, onRawData: (bytes) => void answer.push(bytes.slice()) })
  const execute = (messages: Uint8Array) => {
    answer = []
    try {
      database.execProtocolRawSync(messages)
      return Buffer.concat(answer)
    } catch (error) {
      // PGlite answers SQL errors with messages; after a throw (COPY FROM STDIN, an abort) the session is not to be trusted.
      return died(error)
    }
  }
  const server = createWireServer({ execute, parameters, silenceMs, died })
  rmSync(socketPath, { force: true })
  server.on('error', say)
  server.listen(socketPath, () => say())
  parentPort?.on('message', async (told) => {
    if (told !== 'stop') return say()
    rmSync(socketPath, { force: true })
    await database.close()
    process.exit(0)
  })
} catch (error) {
  say(error)
}

/** The first time from the prepared image: making a new cluster takes seconds. An image that a crash left half unpacked is thrown away. */
async function open(): Promise<PGlite> {
  const [{ PGlite }, pgliteWasmModule] = await Promise.all([library, compiled])
  const dataDir = join(folder, 'data')
  // PostgreSQL clears its cache when it opens: with its own default, 128 MB, that takes as long as all the rest, and is held for ever.
  const startParams = [...PGlite.defaultStartParams, '-c', `shared_buffers=${sharedBuffersMb}MB`]
  const created = join(folder, 'created')
  if (existsSync(created)) return PGlite.create({ dataDir, pgliteWasmModule, startParams })
  await unpackImage(dataDir)
  const database = await PGlite.create({ dataDir, pgliteWasmModule, startParams })
  writeFileSync(created, '')
  return database
}

/** Writes the image's files ourselves: through the library's own file system it takes six times as long. */
async function unpackImage(dataDir: string): Promise<void> {
  const [image, { parseTar }] = await Promise.all([import('@electric-sql/pglite-prepopulatedfs'), import('nanotar')])
  const files = parseTar(gunzipSync(await (await image.dataDir()).arrayBuffer()))
  rmSync(dataDir, { recursive: true, force: true })
  mkdirSync(dataDir, { mode: 0o700 })
  for (const { name, type, data = new Uint8Array() } of files) {
    const path = join(dataDir, name)
    mkdirSync(type === 'directory' ? path : dirname(path), { recursive: true, mode: 0o700 })
    if (type === 'file') writeFileSync(path, data, { mode: 0o600 })
  }
}
