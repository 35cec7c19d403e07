/** One gateway per data folder: a lock that the operating system itself lets go when its holder dies, however it dies. */
import { chmod, mkdir, readdir, stat } from 'node:fs/promises'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GatewayError } from '../contract/errors.ts'

/** A held lock. */
export interface DataDirLock {
  /** Lets go. Safe to call twice. */
  release(): Promise<void>
}

/**
 * Makes the folder (mode 0700) and locks it. The lock is SQLite's exclusive one on an empty file: a kernel lock, so a dead holder's is free at once, nobody
 * has to judge a pid, and two containers on one volume exclude each other too. The pid in `lock.pid` is only for the message.
 * @throws GatewayError `conflict` naming the holder
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  await makePrivate(dataDir)
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(join(dataDir, 'lock'))
  const pidFile = join(dataDir, 'lock.pid')
  try {
    database.exec('pragma busy_timeout = 0; pragma locking_mode = exclusive; begin exclusive')
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 })
  } catch (cause) {
    database.close()
    if (!/locked/.test(String(cause))) throw cause
    throw new GatewayError('conflict', `The data folder is in use by another gateway (pid ${holder(pidFile)}). Stop that one, or choose another folder with --data-dir.`, {
      cause,
      details: { dataDir },
    })
  }
  return {
    async release() {
      if (database.isOpen) database.close()
    },
  }
}

/** A folder that is new, empty or already ours becomes 0700; a stranger's (`/tmp`) keeps its mode. */
async function makePrivate(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  if (((await stat(dataDir)).mode & 0o077) === 0) return
  const names = await readdir(dataDir)
  if (names.length === 0 || names.includes('lock')) await chmod(dataDir, 0o700)
}

function holder(pidFile: string): string {
  try {
    return readFileSync(pidFile, 'utf8').trim() || 'unknown'
  } catch {
    return 'unknown'
  }
}
