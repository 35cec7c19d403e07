/** What the gateway leaves in its data folder for commands beside it: `run.json`, and `cli.token`, a bearer with all scopes, loopback only, new at each start. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AuthMethod, Principal } from '../contract/principal.ts'
import { isForwarded, isLoopbackAddress } from '../http/address.ts'

/** A random bearer. */
export function newLocalToken(): string {
  return `ptl_${randomBytes(32).toString('base64url')}`
}

/** Accepts one known token by a constant-time comparison; with `loopbackOnly` from this machine alone, and through no proxy. */
export function fixedToken(name: string, token: string, principal: Principal, options: { loopbackOnly: boolean }): AuthMethod {
  const expected = digest(token)
  return {
    name,
    authenticate({ token: presented, address, request }) {
      // By the caller's address, not by the gateway's: commands work beside one that listens publicly too.
      if (presented === undefined || (options.loopbackOnly && (!isLoopbackAddress(address) || isForwarded(request.headers)))) return null
      if (!timingSafeEqual(digest(presented), expected)) return null
      // A cached token would be accepted from any address.
      return options.loopbackOnly ? { principal } : { principal, cacheUntil: Number.POSITIVE_INFINITY }
    },
  }
}

/** The principal of a token that has all scopes. */
export function localPrincipal(id: string): Principal {
  return { id, kind: 'user', scopes: ['admin', 'rpc', 'api'], groups: [], via: `${id}:${id}` }
}

/** What `run.json` says. */
export interface RunFile {
  readonly url: string
  /** Of the serving process. */
  readonly pid: number
  /** RFC 3339, UTC. */
  readonly startedAt: string
  /** Folder of the embedded database's socket; null with PostgreSQL. */
  readonly socket: string | null
}

/** Writes both files, mode 0600, each by rename; returns their removal. */
export async function writeRunFiles(dataDir: string, run: RunFile, token: string): Promise<() => Promise<void>> {
  const files = { 'cli.token': `${token}\n`, 'run.json': `${JSON.stringify(run, null, 2)}\n` }
  for (const [name, content] of Object.entries(files)) {
    const draft = join(dataDir, `.${name}.${process.pid}`)
    // What lies there is a dead process's, or a trap: a link is not followed, a file of another mode not filled.
    await rm(draft, { force: true })
    await writeFile(draft, content, { mode: 0o600, flag: 'wx' })
    await rename(draft, join(dataDir, name))
  }
  return async () => {
    for (const name of Object.keys(files)) await rm(join(dataDir, name), { force: true })
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
