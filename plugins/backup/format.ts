/**
 * The file of a backup: gzip over lines of JSON. First a header, then for each table a line that names it and the rows behind it as PostgreSQL's own
 * `row_to_json` wrote them, last a trailer with the count of the rows and the SHA-256 of every line before. It depends on no version of PostgreSQL and on no
 * kind of database: what PGlite held a PostgreSQL server takes, and the other way round.
 */
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { GatewayError } from 'portico'

const format = 'portico-backup'
const formatVersion = 1

/** A migration that the backup's tables have seen. */
export interface AppliedMigration {
  readonly plugin: string
  readonly name: string
  readonly hash: string
}

/** The first line. */
export interface BackupHeader {
  readonly format: typeof format
  readonly formatVersion: number
  /** Of the gateway that made it. */
  readonly version: string
  /** RFC 3339, UTC. */
  readonly createdAt: string
  readonly migrations: readonly AppliedMigration[]
}

/** One line between header and trailer: a table, or a row of the table last named. */
export type BackupLine = { readonly table: string } | { readonly row: string }

/** Writes a backup to a new file of mode 0600. `lines` is read as fast as the disk takes it. Gives the count of the rows. */
export async function writeBackup(file: string, about: Omit<BackupHeader, 'format' | 'formatVersion'>, lines: AsyncIterable<BackupLine>): Promise<number> {
  const hash = createHash('sha256')
  let rows = 0
  const note = (line: string) => {
    hash.update(line)
    return line
  }
  async function* text() {
    yield note(`${JSON.stringify({ format, formatVersion, ...about } satisfies BackupHeader)}\n`)
    for await (const line of lines) {
      if ('row' in line) rows++
      // A row begins with {, a table's line with [: no row can be taken for a table.
      yield note('row' in line ? `${line.row}\n` : `${JSON.stringify([line.table])}\n`)
    }
    yield `${JSON.stringify({ rows, sha256: hash.digest('hex') })}\n`
  }
  await pipeline(text(), createGzip({ level: 6 }), createWriteStream(file, { mode: 0o600, flags: 'wx' }))
  return rows
}

/** The header of a whole backup. @throws GatewayError `invalid_request` when the file is no backup, is not whole, or was changed */
export async function checkBackup(file: string): Promise<BackupHeader> {
  const hash = createHash('sha256')
  let header: BackupHeader | undefined
  let rows = 0
  let last = ''
  for await (const line of linesOf(file)) {
    if (header === undefined) header = toHeader(line)
    else if (last.startsWith('{') && last !== '') rows++
    if (last !== '') hash.update(`${last}\n`)
    last = line
  }
  // The header was counted as a row when its successor came.
  const trailer = parse(last) as { rows?: number; sha256?: string } | undefined
  if (header === undefined || trailer?.sha256 !== hash.digest('hex') || trailer.rows !== Math.max(0, rows - 1))
    throw refused('it is not whole, or was changed after it was made')
  return header
}

/** The tables and rows, in the order of the file. */
export async function* readBackup(file: string): AsyncGenerator<BackupLine> {
  let before: string | undefined
  let isFirst = true
  for await (const line of linesOf(file)) {
    // The header is the first line, the trailer the last.
    if (before !== undefined) yield before.startsWith('[') ? { table: (JSON.parse(before) as [string])[0] } : { row: before }
    before = isFirst ? undefined : line
    isFirst = false
  }
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const source = createReadStream(file)
  const unzipped = createGunzip()
  const failed = pipeline(source, unzipped).then(
    () => undefined,
    (error: Error) => error,
  )
  try {
    for await (const line of createInterface({ input: unzipped, crlfDelay: Number.POSITIVE_INFINITY })) yield line
  } catch {
    // What went wrong is asked below, in whichever order the runtime tells it.
  } finally {
    source.destroy()
    unzipped.destroy()
  }
  const error = await failed
  if (!error || /premature close/i.test(error.message)) return
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new GatewayError('not_found', 'The backup file does not exist.', { cause: error })
  throw refused('it cannot be unpacked', error)
}

function toHeader(line: string): BackupHeader {
  const header = parse(line) as Partial<BackupHeader> | undefined
  if (header?.format !== format || !Array.isArray(header.migrations)) throw refused('it was not made by portico backup')
  if (header.formatVersion !== formatVersion)
    throw refused(`it has the format ${header.formatVersion}, this gateway reads ${formatVersion}: restore it with a newer one`)
  return header as BackupHeader
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

function refused(why: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_request', `The file cannot be restored: ${why}.`, { cause })
}
