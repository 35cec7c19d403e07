/** Migrations as they stand in their folders. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One of them. */
export interface Migration {
  readonly name: string
  readonly sql: string
  /** SHA-256, hex. */
  readonly hash: string
}

/** What was read ahead, by folder; each is taken once. */
const ahead = new Map<string, Promise<readonly Migration[]>>()

/** Reads these folders while the start waits for something else: one that is not there, or is wrong, is nobody's problem yet. */
export function readAhead(folders: readonly URL[]): void {
  for (const folder of folders) {
    const reading = readFolder(folder, (what) => new Error(what))
    reading.catch(() => ahead.delete(folder.href))
    ahead.set(folder.href, reading)
  }
}

/** The migrations of a folder, in order. @throws what `refused` makes of what is wrong with a name */
export async function readMigrations(folder: URL, refused: (what: string) => Error): Promise<readonly Migration[]> {
  const known = ahead.get(folder.href)
  ahead.delete(folder.href)
  return (await known?.catch(() => undefined)) ?? readFolder(folder, refused)
}

async function readFolder(folder: URL, refused: (what: string) => Error): Promise<readonly Migration[]> {
  const base = fileURLToPath(folder.href)
  const names = (await readdir(base)).filter((name) => name.endsWith('.sql')).sort()
  const wrong = names.find((name, at) => !/^\d{4}_[a-z0-9_]+\.sql$/.test(name) || names[at - 1]?.slice(0, 4) === name.slice(0, 4))
  if (wrong) throw refused(`The migration ${wrong} is not named by a number of its own, like 0001_what_it_does.sql. Rename it.`)
  return Promise.all(
    names.map(async (name) => {
      const sql = (await readFile(join(base, name), 'utf8')).replaceAll('\r\n', '\n')
      return { name, sql, hash: createHash('sha256').update(sql).digest('hex') }
    }),
  )
}
