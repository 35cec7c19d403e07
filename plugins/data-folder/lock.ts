/** One gateway per data folder: a lock that the operating system itself lets go when its holder dies, however it dies. */
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GatewayError } from 'portico'

/** A database that nobody refers to is closed by the garbage collector, and the lock is gone. */
const held = new Set<object>()

/** A held lock. */
export interface DataDirLock {
  /** Lets go. Safe to call twice. */
  release(): void
}

/**
 * Makes the folder and locks it. The lock is SQLite's exclusive one on an empty file: the kernel's, so a dead holder's is free at once, nobody has to judge
 * a pid, and two containers on one volume exclude each other too. The pid in `lock.pid` is only for the message.
 * A folder that is new, empty or already ours gets mode 0700; one that everybody may write to is refused: whoever can place files there owns the gateway.
 * @throws GatewayError `conflict` naming the holder, `config_invalid`
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const names = await readdir(dataDir)
  if (names.length === 0 || names.includes('lock')) await chmod(dataDir, 0o700)
  if ((await stat(dataDir)).mode & 0o002)
    throw new GatewayError(
      'config_invalid',
      `Everybody may write to the data folder ${dataDir}. Make it yours alone, chmod 700 ${dataDir}, or choose another with --data-dir.`,
    )
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(join(dataDir, 'lock'))
  const pidFile = join(dataDir, 'lock.pid')
  try {
    database.exec('pragma busy_timeout = 0; pragma locking_mode = exclusive; begin exclusive')
    await writeFile(pidFile, `${process.pid}`)
  } catch (cause) {
    database.close()
    throw /locked/.test(String(cause)) ? await inUse(pidFile, cause) : cause
  }
  held.add(database)
  return { release: () => void (held.delete(database) && database.close()) }
}

async function inUse(pidFile: string, cause: unknown): Promise<GatewayError> {
  const pid = await readFile(pidFile, 'utf8').catch(() => 'unknown')
  const message = `The data folder is in use by another gateway (pid ${pid}). Stop that one, or choose another folder with --data-dir.`
  return new GatewayError('conflict', message, { cause })
}
