/** `portico backup` and `portico restore`. */
import { createWriteStream, existsSync } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { defineCommand, GatewayError } from 'portico'

const file = { type: 'positional', summary: 'The file', required: true } as const

/** `portico backup FILE`. */
export const backup = defineCommand({
  summary: 'Write everything in the database, of one moment, to a file; also beside a running gateway. It holds the hashes of keys: keep it like one',
  args: { file, force: { type: 'boolean', summary: 'Overwrite the file' } },
  examples: ['portico backup portico.backup', 'portico backup /var/backups/portico.backup --force --json'],
  async run({ args, fetch, note, print, signal }) {
    const path = resolve(String(args.file))
    if (existsSync(path) && args.force !== true)
      throw new GatewayError('conflict', `${path} exists already. Choose another name, or overwrite it with --force.`)
    note('Reading the database …')
    const response = await fetch('/api/backup')
    if (!response.ok || !response.body) throw new GatewayError('upstream_error', `The gateway answered ${response.status}: ${await response.text()}`)
    const draft = `${path}.part`
    try {
      await pipeline(Readable.fromWeb(response.body as never), createWriteStream(draft, { mode: 0o600 }), { signal })
      await rename(draft, path)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
    const { size } = await stat(path)
    print({ file: path, bytes: size }, `${path}: ${(size / 1024).toFixed(0)} kB. Put it back with: portico restore ${path}`)
  },
})

/** `portico restore FILE`. */
export const restore = defineCommand({
  summary: 'Replace everything in the database by a backup, all of it or nothing, while the gateway is stopped',
  args: { file, yes: { type: 'boolean', summary: 'Do not ask: what is in the database now is lost' } },
  examples: ['portico restore portico.backup --yes', 'portico restore portico.backup --yes --data-dir ./new'],
  async run({ args, print, request }) {
    const path = resolve(String(args.file))
    if (!existsSync(path)) throw new GatewayError('not_found', `There is no file ${path}.`)
    if (args.yes !== true) throw new GatewayError('conflict', 'What is in the database now would be lost. If that is meant: portico restore FILE --yes')
    const done = await request<{ createdAt: string; version: string; tables: number; rows: number }>('POST', '/api/backup/restore', { file: path })
    print({ file: path, ...done }, `Restored ${done.rows} rows of ${done.tables} tables, as they were on ${done.createdAt}.`)
  },
})
