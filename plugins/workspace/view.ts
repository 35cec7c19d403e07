/** What a run sees: the folder with its own staged files over it. */
import { GatewayError } from 'portico'
import { toText } from './contents.ts'
import type { WorkspaceEntry, WorkspaceMatch } from './contract.ts'
import type { Files } from './files.ts'

/** Entries of one answer; more are not looked at. */
const maxEntries = 5_000
/** Files that one search reads. */
const maxSearched = 20_000
const maxDepth = 32
/** Characters of a line that are shown. */
const maxLine = 500
/** Folders in which people do not search. */
const skipped: ReadonlySet<string> = new Set(['.git', 'node_modules'])

/** Staged paths, and whether a file is to be there. */
export type Overlay = ReadonlyMap<string, { readonly size: number } | null>

/** How far a walk goes. */
interface Walk {
  readonly files: Files
  readonly overlay: Overlay
  readonly depth: number
  readonly skips: ReadonlySet<string>
  readonly signal: AbortSignal | undefined
}

/** All below a folder, folder by folder, each in the order of names. @throws GatewayError `not_found` */
async function* walk(folder: readonly string[], options: Walk): AsyncGenerator<WorkspaceEntry> {
  const { files, overlay, depth, skips, signal } = options
  signal?.throwIfAborted()
  const prefix = folder.length === 0 ? '' : `${folder.join('/')}/`
  const found = new Map<string, WorkspaceEntry>()
  const real = await files.list(folder)
  for (const { name, kind, size } of real ?? []) found.set(name, { path: prefix + name, kind, size })
  let isStaged = false
  for (const [path, staged] of overlay) {
    if (!path.startsWith(prefix)) continue
    const [name = '', ...below] = path.slice(prefix.length).split('/')
    if (staged === null && below.length === 0) found.delete(name)
    if (staged === null) continue
    isStaged = true
    found.set(name, { path: prefix + name, kind: below.length === 0 ? 'file' : 'folder', size: below.length === 0 ? staged.size : 0 })
  }
  if (real === null && !isStaged && folder.length > 0)
    throw new GatewayError('not_found', `There is no folder ${JSON.stringify(folder.join('/'))} in the workspace. list_files shows what there is.`)
  for (const entry of [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    yield entry
    const name = entry.path.slice(prefix.length)
    if (entry.kind === 'folder' && depth > 1 && !skips.has(name)) yield* walk([...folder, name], { ...options, depth: depth - 1 })
  }
}

/** The entries of a folder, to a depth (1 = its own). */
export async function listEntries(folder: readonly string[], options: Omit<Walk, 'skips'>): Promise<WorkspaceEntry[]> {
  const entries: WorkspaceEntry[] = []
  for await (const entry of walk(folder, { ...options, skips: new Set() })) {
    entries.push(entry)
    if (entries.length >= maxEntries) break
  }
  return entries
}

/** What is looked for. */
export interface SearchOptions {
  readonly files: Files
  readonly overlay: Overlay
  readonly text: string
  readonly isRegex: boolean
  readonly limit: number
  readonly signal: AbortSignal | undefined
  /** The content as the run sees it; null for what is too large or gone. */
  read(path: string): Promise<Uint8Array | null>
}

/** Lines with the text, in a file or below a folder. Binary files are left out. */
export async function searchLines(start: readonly string[], isFile: boolean, options: SearchOptions): Promise<WorkspaceMatch[]> {
  const { files, overlay, signal, limit } = options
  const matches = await matcher(options.text, options.isRegex)
  const found: WorkspaceMatch[] = []
  const search = async (path: string) => {
    const content = await options.read(path)
    const text = content === null ? null : toText(content)
    if (text === null) return
    let number = 0
    for (const line of text.split('\n')) {
      number++
      if (!matches(line)) continue
      found.push({ path, line: number, text: line.length > maxLine ? `${line.slice(0, maxLine)}…` : line.replace(/\r$/, '') })
      if (found.length >= limit) return
    }
  }
  if (isFile) await search(start.join('/'))
  else {
    let searched = 0
    for await (const entry of walk(start, { files, overlay, depth: maxDepth, skips: skipped, signal })) {
      if (entry.kind !== 'file') continue
      signal?.throwIfAborted()
      await search(entry.path)
      if (found.length >= limit || ++searched >= maxSearched) break
    }
  }
  return found
}

/** Expressions run in linear time: a model may write any, and a backtracking one would stop the gateway. */
async function matcher(text: string, isRegex: boolean): Promise<(line: string) => boolean> {
  if (!isRegex) return (line) => line.includes(text)
  const { RE2JS } = await import('re2js')
  try {
    const expression = RE2JS.compile(text)
    return (line) => expression.matcher(line).find()
  } catch (cause) {
    throw noExpression(cause as Error)
  }
}

function noExpression(cause: Error): GatewayError {
  return new GatewayError('invalid_request', `This expression is not understood (RE2: no look-around, no back references): ${cause.message}`, {
    cause,
    param: 'text',
  })
}
