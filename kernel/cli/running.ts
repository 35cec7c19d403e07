/** What `portico start` leaves in the data folder for commands beside it, and how they find it: `run.json`, and `cli.token`, its local bearer. */
import { X509Certificate } from 'node:crypto'
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

/** What the gateway shows who connects: the file that it was read from and may be renewed in, and what it was at the start. */
export interface Certificate {
  readonly file: string
  /** SHA-256, hex with colons. */
  readonly fingerprint: string
}

/** The certificate of a PEM file, for `run.json`. */
export function certificateOf(file: string): Certificate {
  return { file, fingerprint: new X509Certificate(readFileSync(file)).fingerprint256 }
}

/** What `run.json` says. */
export interface RunFile {
  readonly url: string
  /** Of the serving process. */
  readonly pid: number
  /** RFC 3339, UTC. */
  readonly startedAt: string
  /** The embedded database's socket; null with PostgreSQL. */
  readonly socket: string | null
  /** Of `https`; null over plain http. */
  readonly certificate: Certificate | null
}

/** Writes both files, mode 0600, each by rename, before anything else runs: who waits for them waits for no plugin. Returns their removal. */
export function writeRunFiles(dataDir: string, run: RunFile, token: string): () => Promise<void> {
  const files = { 'cli.token': `${token}\n`, 'run.json': `${JSON.stringify(run, null, 2)}\n` }
  for (const [name, content] of Object.entries(files)) {
    const draft = join(dataDir, `.${name}.${process.pid}`)
    // What lies there is a dead process's, or a trap: a link is not followed, a file of another mode not filled.
    rmSync(draft, { force: true })
    writeFileSync(draft, content, { mode: 0o600, flag: 'wx' })
    renameSync(draft, join(dataDir, name))
  }
  return async () => {
    for (const name of Object.keys(files)) await rm(join(dataDir, name), { force: true })
  }
}

/** What `run.json` and `cli.token` say. */
export interface RunningGateway {
  /** Where it is to be called from this machine. */
  readonly url: string
  readonly pid: number
  /** RFC 3339, UTC. */
  readonly startedAt: string
  /** A bearer with all scopes. */
  readonly token: string
  /** The one certificate that is trusted there; null over plain http. */
  readonly certificate: Certificate | null
}

/** The gateway on this folder; null when none runs there: no files, or those of a process that is gone. */
export function findRunning(dataDir: string): RunningGateway | null {
  try {
    const run = JSON.parse(readFileSync(join(dataDir, 'run.json'), 'utf8')) as { [Key in keyof RunFile]?: unknown }
    const token = readFileSync(join(dataDir, 'cli.token'), 'utf8').trim()
    if (typeof run.url !== 'string' || typeof run.pid !== 'number' || !isAlive(run.pid)) return null
    return { url: reachable(run.url), pid: run.pid, startedAt: String(run.startedAt), token, certificate: (run.certificate as Certificate | undefined) ?? null }
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** There is such a process, whoever's. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The URL as this machine calls it: "all addresses" can be listened on, not called. */
export function reachable(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
}
