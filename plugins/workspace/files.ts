/**
 * The files under one root, and nothing outside of it: each folder of a path is opened from the one before and no link is ever followed, so that whoever swaps a
 * folder for a link between the check and the use gains nothing. What may be staged, and when, others decide.
 */
import { constants, type Dirent } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, opendir, realpath, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { GatewayError } from 'portico'
import { isTemporary } from './paths.ts'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants

/** Entries of one folder; more are not looked at. */
const maxEntries = 10_000

/** A file as it was read. */
export interface FileContent {
  readonly content: Uint8Array
  /** Permissions. */
  readonly mode: number
}

/** What stands in a folder; links and devices are not shown. */
export interface FolderEntry {
  readonly name: string
  readonly kind: 'file' | 'folder'
  readonly size: number
}

/** Files under a root. Paths come as `toSegments` gives them. */
export interface Files {
  /** Null when there is none. @throws GatewayError `body_too_large` over `maxBytes`, `invalid_request` for a link, a folder, a device */
  read(path: readonly string[], maxBytes: number): Promise<FileContent | null>
  /** What is there: null for nothing. @throws GatewayError `invalid_request` for a link or a device */
  kindOf(path: readonly string[]): Promise<'file' | 'folder' | null>
  /** Null when there is no such folder. */
  list(path: readonly string[]): Promise<FolderEntry[] | null>
  /** Writes the content beside the path, under `name`, through to the disk; folders are made. */
  prepare(path: readonly string[], name: string, content: Uint8Array, mode: number | null): Promise<void>
  /** Puts what was prepared in its place. */
  commit(path: readonly string[], name: string): Promise<void>
  /** Removes the file, or what was prepared under `name`; nothing to remove is no error. */
  remove(path: readonly string[], name?: string): Promise<void>
}

/** How it is made. */
export interface FilesOptions {
  /** Default: where the system has /proc. False: by checks before the use, as on other systems. */
  readonly usesProc?: boolean
}

/** Makes it. The root is made when it is first needed. */
export function createFiles(root: string, { usesProc = process.platform === 'linux' }: FilesOptions = {}): Files {
  let made: Promise<string> | undefined
  const realRoot = () => {
    made ??= mkdir(root, { recursive: true, mode: 0o700 }).then(() => realpath(root))
    made.catch(() => {
      made = undefined
    })
    return made
  }

  /** Runs `body` with the name of the folder, good until it settles. */
  async function within<T>(folder: readonly string[], create: boolean, body: (at: string) => Promise<T>): Promise<T> {
    const base = await realRoot()
    if (!usesProc) return body(await checked(base, folder, create))
    let handle = await open(base, O_RDONLY | O_DIRECTORY)
    try {
      for (const name of folder) {
        const next = await enter(`/proc/self/fd/${handle.fd}/${name}`, name, create)
        await handle.close()
        handle = next
      }
      return await body(`/proc/self/fd/${handle.fd}`)
    } finally {
      await handle.close().catch(() => undefined)
    }
  }

  const inFolderOf = <T>(path: readonly string[], body: (place: string, at: string) => Promise<T>, create = false) =>
    within(path.slice(0, -1), create, (at) => body(`${at}/${path.at(-1)}`, at))

  return {
    async read(path, maxBytes) {
      const found = await orNull(
        inFolderOf(path, async (place) => {
          const handle = await open(place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
          try {
            const { size, mode } = await handle.stat().then((stat) => (stat.isFile() ? stat : Promise.reject(isNoFile(path))))
            if (size > maxBytes) throw tooLarge(path, size, maxBytes)
            return { content: await readUpTo(handle, maxBytes, () => tooLarge(path, maxBytes + 1, maxBytes)), mode: mode & 0o777 }
          } finally {
            await handle.close()
          }
        }),
        path,
      )
      return found
    },

    kindOf: (path) =>
      orNull(
        inFolderOf(path, async (place) => {
          const stat = await lstat(place)
          if (stat.isDirectory()) return 'folder'
          if (stat.isFile()) return 'file'
          throw isNoFile(path)
        }),
        path,
      ),

    list: (path) =>
      orNull(
        within(path, false, async (at) => {
          const entries: FolderEntry[] = []
          for await (const entry of await opendir(at)) {
            if (isTemporary(entry.name)) continue
            if (entries.length >= maxEntries) break
            const shown = await toEntry(at, entry)
            if (shown) entries.push(shown)
          }
          return entries
        }),
        path,
      ),

    prepare: (path, name, content, mode) =>
      inFolderOf(
        path,
        async (_, at) => {
          // What a crash has left, maybe half.
          await unlink(`${at}/${name}`).catch(ignoreMissing)
          const handle = await open(`${at}/${name}`, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode ?? 0o644)
          try {
            await handle.writeFile(content)
            if (mode !== null) await handle.chmod(mode)
            await handle.sync()
          } finally {
            await handle.close()
          }
        },
        true,
      ),

    commit: (path, name) => inFolderOf(path, (place, at) => rename(`${at}/${name}`, place)),

    async remove(path, name) {
      await orNull(
        inFolderOf(path, (place, at) => unlink(name === undefined ? place : `${at}/${name}`)),
        path,
      )
    },
  }
}

/** Opens the next folder; what is no folder, links too, is refused by the system itself. */
async function enter(place: string, name: string, create: boolean): Promise<FileHandle> {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
  try {
    return await open(place, flags)
  } catch (error) {
    if (isCode(error, 'ELOOP', 'ENOTDIR')) throw isNoFolder(name, error)
    if (!create || !isCode(error, 'ENOENT')) throw error
    await mkdir(place, 0o755).catch((failure) => {
      if (!isCode(failure, 'EEXIST')) throw failure
    })
    return open(place, flags)
  }
}

/** Where there is no /proc: each folder is looked at, and then where the whole really leads. A short race stays; docs/security.md says so. */
async function checked(base: string, folder: readonly string[], create: boolean): Promise<string> {
  let at = base
  for (const name of folder) {
    at = join(at, name)
    const stat = await lstat(at).catch(async (error) => {
      if (!create || !isCode(error, 'ENOENT')) throw error
      await mkdir(at, 0o755)
      return lstat(at)
    })
    if (!stat.isDirectory()) throw isNoFolder(name)
  }
  if ((await realpath(at)) !== at) throw isNoFolder(folder.join('/'))
  return at
}

async function toEntry(at: string, entry: Dirent): Promise<FolderEntry | null> {
  if (entry.isDirectory()) return { name: entry.name, kind: 'folder', size: 0 }
  if (!entry.isFile()) return null
  const stat = await lstat(`${at}/${entry.name}`).catch(() => null)
  return stat?.isFile() ? { name: entry.name, kind: 'file', size: stat.size } : null
}

/** A file that grows while it is read is not read for ever. */
async function readUpTo(handle: FileHandle, maxBytes: number, late: () => Error): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let total = 0
  for (;;) {
    const { bytesRead, buffer } = await handle.read(new Uint8Array(64 * 1_024), 0, 64 * 1_024, null)
    if (bytesRead === 0) return Buffer.concat(parts)
    total += bytesRead
    if (total > maxBytes) throw late()
    parts.push(buffer.subarray(0, bytesRead))
  }
}

async function orNull<T>(work: Promise<T>, path: readonly string[]): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    if (isCode(error, 'ELOOP', 'EISDIR', 'ENXIO', 'EPERM')) throw isNoFile(path, error)
    throw error
  }
}

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes((error as { code?: string }).code ?? '')
}

function ignoreMissing(error: unknown): void {
  if (!isCode(error, 'ENOENT')) throw error
}

function isNoFile(path: readonly string[], cause?: unknown): GatewayError {
  const message = `${path.join('/')} is a folder, a link or a device, and no file. Links are not followed here; list_files shows what there is.`
  return new GatewayError('invalid_request', message, { param: 'path', cause })
}

function isNoFolder(name: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_request', `${JSON.stringify(name)} is a file or a link, and no folder. Links are not followed here.`, {
    param: 'path',
    cause,
  })
}

function tooLarge(path: readonly string[], size: number, maxBytes: number): GatewayError {
  return new GatewayError('body_too_large', `${path.join('/')} has ${size} bytes or more; at most ${maxBytes} are read (workspace.maxFileBytes).`, {
    param: 'path',
  })
}
