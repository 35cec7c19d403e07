/** The plugin `backup`: everything in the database as one file, and back. */

import { createReadStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { admin, contextOf, definePlugin, GatewayError, guard, kernel, t } from 'portico'
import { database } from 'portico/plugins/database'
import { appliedMigrations, dumpTables, restoreTables } from './dump.ts'
import { writeBackup } from './format.ts'

export default definePlugin({
  id: 'backup',
  version: '0.1.0',
  api: 1,
  summary: 'Everything in the database as one file, and back',
  requires: { kernel, database },
  paths: ['/api/backup'],
  commands: [
    { name: 'backup', summary: 'Write everything in the database to a file', load: async () => ({ default: (await import('./cli.ts')).backup }) },
    { name: 'restore', summary: 'Put a backup back', load: async () => ({ default: (await import('./cli.ts')).restore }) },
  ],
  async setup(ctx) {
    const { pool } = ctx.services.database
    const folder = join(ctx.dataDir, 'files', 'backup')
    // What a crash left in the middle of a backup.
    await rm(folder, { recursive: true, force: true })
    let count = 0
    return {
      routes: [
        guard(
          admin,
          (app) =>
            app.get(
              '/api/backup',
              async ({ request }) => {
                await mkdir(folder, { recursive: true, mode: 0o700 })
                const file = join(folder, `${++count}.portico`)
                // To a file first: a slow reader must not hold the snapshot open.
                const about = {
                  version: ctx.services.kernel.version,
                  createdAt: new Date(ctx.clock.now()).toISOString(),
                  migrations: await appliedMigrations(pool),
                }
                try {
                  await writeBackup(file, about, dumpTables(pool))
                  return new Response(streamed(file, request), {
                    headers: {
                      'content-type': 'application/gzip',
                      'content-disposition': `attachment; filename="portico-${about.createdAt.slice(0, 10)}.backup"`,
                    },
                  })
                } catch (error) {
                  await rm(file, { force: true })
                  throw error
                }
              },
              {
                detail: {
                  operationId: 'getBackup',
                  summary: 'Everything in the database, of one moment, as a file for `portico restore`',
                  tags: ['backup'],
                  responses: { 200: { description: 'The backup', content: { 'application/gzip': { schema: { type: 'string', format: 'binary' } } } } },
                },
              },
            ),
          { deadline: 600_000, stream: true },
        ),
        guard(
          admin,
          (app) =>
            app.post(
              '/api/backup/restore',
              async ({ body: { file }, request }) => {
                if (contextOf(request).address !== '')
                  throw new GatewayError(
                    'conflict',
                    `A gateway runs on this data folder (pid ${process.pid}), and a backup is put back while none does. Stop it, then: portico restore FILE --yes`,
                  )
                const { header, tables, rows } = await restoreTables(pool, file)
                return { createdAt: header.createdAt, version: header.version, tables, rows }
              },
              {
                body: t.Object({ file: t.String({ minLength: 1, description: 'Its full path on this machine' }) }),
                response: t.Object({ createdAt: t.String({ format: 'date-time' }), version: t.String(), tables: t.Integer(), rows: t.Integer() }),
                detail: {
                  operationId: 'restoreBackup',
                  summary: 'Replaces everything in the database by a backup; only by the command of a gateway that is stopped',
                  tags: ['backup'],
                },
              },
            ),
          { deadline: 3_600_000 },
        ),
      ],
    }
  },
})

/** The file's bytes; it is deleted when the stream is over, whichever way. */
function streamed(file: string, request: Request): ReadableStream<Uint8Array> {
  const source = createReadStream(file)
  const release = contextOf(request).hold('work', () => source.destroy(new Error('The gateway stops')))
  source.once('close', () => {
    release()
    void rm(file, { force: true })
  })
  return Readable.toWeb(source) as unknown as ReadableStream<Uint8Array>
}
