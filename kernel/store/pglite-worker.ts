/** The worker thread: opens PGlite in a folder and serves it on a unix socket there. Started by pglite.ts, which holds the folder's lock. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { PGlite } from '@electric-sql/pglite'
import { createWireServer } from './wire.ts'

/** What pglite.ts gives the worker. */
export interface WorkerInput {
  /** Holds `data`, PGlite's own folder, and `created`, which says that it is whole. */
  readonly folder: string
  readonly socketPath: string
  readonly silenceMs: number
}

/** What the worker says: it serves, it could not. It is told 'stop', and then exits. */
export type WorkerMessage = { readonly ready: true } | { readonly failed: string }

if (!parentPort) throw new Error('pglite-worker.ts runs as a worker of pglite.ts')
const port = parentPort
const { folder, socketPath, silenceMs } = workerData as WorkerInput

try {
  const database = await open()
  const server = createWireServer({
    execute: (messages) => database.execProtocolRawSync(messages),
    parameters: { server_version: '18.3', server_encoding: 'UTF8', client_encoding: 'UTF8', DateStyle: 'ISO, MDY', TimeZone: 'UTC', integer_datetimes: 'on', standard_conforming_strings: 'on' },
    silenceMs,
  })
  server.on('error', (error) => port.postMessage({ failed: error.message } satisfies WorkerMessage))
  rmSync(socketPath, { force: true })
  server.listen(socketPath, () => port.postMessage({ ready: true } satisfies WorkerMessage))
  port.on('message', async () => {
    server.close()
    rmSync(socketPath, { force: true })
    await database.close()
    process.exit(0)
  })
} catch (error) {
  port.postMessage({ failed: error instanceof Error ? error.message : String(error) } satisfies WorkerMessage)
}

/** The first time from the prepared image: making a new cluster takes seconds. An image that a crash left half unpacked is thrown away. */
async function open(): Promise<PGlite> {
  const dataDir = join(folder, 'data')
  const created = join(folder, 'created')
  if (existsSync(created)) return PGlite.create({ dataDir })
  rmSync(dataDir, { recursive: true, force: true })
  const image = await import('@electric-sql/pglite-prepopulatedfs')
  const database = await PGlite.create({ dataDir, loadDataDir: await image.dataDir() })
  writeFileSync(created, '')
  return database
}
