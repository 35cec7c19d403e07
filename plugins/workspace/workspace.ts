/** The service `workspace`: reads, stages, and hands what is to be written to `moves.ts`. */
import { randomBytes } from 'node:crypto'
import { and, eq } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Logger, sql, type Transaction } from 'portico'
import { compare, hashOf } from './contents.ts'
import type { Artifact, RunWorkspace, Workspace } from './contract.ts'
import type { Files } from './files.ts'
import { createLock } from './locks.ts'
import { type Direction, move } from './moves.ts'
import { toFileSegments, toSegments } from './paths.ts'
import { type ArtifactState, artifacts } from './schema.ts'
import { listEntries, searchLines } from './view.ts'

const maxDepth = 32
const defaultMatches = 100
const maxMatches = 1_000

/** What it works with. */
export interface WorkspaceOptions {
  readonly db: Database
  readonly clock: Clock
  readonly log: Logger
  readonly files: Files
  readonly limits: WorkspaceLimits
}

/** Of the config. */
export interface WorkspaceLimits {
  readonly maxFileBytes: number
  readonly maxStagedBytes: number
  readonly maxFiles: number
}

const described = {
  ...{ id: artifacts.id, runId: artifacts.runId, path: artifacts.path, state: artifacts.state, before: artifacts.before, after: artifacts.after },
  ...{ size: artifacts.size, isBinary: artifacts.isBinary, diff: artifacts.diff },
}

/** Makes it. */
export function createWorkspace({ db, clock, log, files, limits }: WorkspaceOptions): Workspace {
  const { maxFileBytes, maxFiles, maxStagedBytes } = limits
  const lock = createLock()

  async function list(runId: string, tx: Transaction | Database = db): Promise<Artifact[]> {
    const rows = await tx.select(described).from(artifacts).where(eq(artifacts.runId, runId))
    return rows.map(toArtifact).sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /** What the run has staged, over what stands there. */
  async function overlayOf(runId: string): Promise<Map<string, { size: number } | null>> {
    const staged = (await list(runId)).filter(({ state }) => state === 'staged')
    return new Map(staged.map(({ path, after, size }) => [path, after === null ? null : { size }]))
  }

  async function rowOf(runId: string, id: string) {
    const [row] = await db
      .select()
      .from(artifacts)
      .where(and(eq(artifacts.runId, runId), eq(artifacts.id, id)))
    if (!row) throw new GatewayError('not_found', `${runId} has no artifact ${JSON.stringify(id.slice(0, 100))}.`)
    return row
  }

  /** The content as the run sees it; null when there is no file. */
  async function contentOf(runId: string, segments: readonly string[]): Promise<Uint8Array | null> {
    const [row] = await db
      .select({ state: artifacts.state, content: artifacts.afterContent })
      .from(artifacts)
      .where(and(eq(artifacts.runId, runId), eq(artifacts.path, segments.join('/'))))
    if (row?.state === 'staged' || row?.state === 'applying') return row.content
    return (await files.read(segments, maxFileBytes))?.content ?? null
  }

  async function stage(runId: string, segments: readonly string[], content: Uint8Array | null): Promise<Artifact> {
    const path = segments.join('/')
    const size = content?.byteLength ?? 0
    if (size > maxFileBytes)
      throw new GatewayError('body_too_large', `${path} would have ${size} bytes; at most ${maxFileBytes} are staged (workspace.maxFileBytes).`)
    const [known] = await db
      .select()
      .from(artifacts)
      .where(and(eq(artifacts.runId, runId), eq(artifacts.path, path)))
    if (known?.state === 'applying' || known?.state === 'undoing')
      throw new GatewayError('conflict', `${path} is ${known.state} now. Wait until that has ended.`)
    const isStaged = known?.state === 'staged'
    const stood = isStaged ? { content: known.beforeContent, mode: known.mode } : await files.read(segments, maxFileBytes)
    const before = stood?.content ?? null
    const after = hashOf(content)
    if (content === null && (isStaged ? known.after : before) === null) throw new GatewayError('not_found', `There is no file ${path} to delete.`)
    await refuseOverlap(runId, segments)
    const others = (await sizes(runId)).filter((other) => other.path !== path)
    if (others.length >= maxFiles)
      throw new GatewayError('body_too_large', `The run has staged ${others.length} files, the most there may be (workspace.maxFiles).`)
    const total = others.reduce((sum, other) => sum + other.bytes, size + (before?.byteLength ?? 0))
    if (total > maxStagedBytes)
      throw new GatewayError('body_too_large', `With ${path} the run would keep ${total} bytes; at most ${maxStagedBytes} are kept (workspace.maxStagedBytes).`)
    const { isBinary, diff } = await compare(path, before, content)
    const row = {
      ...{ id: isStaged ? known.id : `art_${randomBytes(12).toString('hex')}`, runId, path, state: 'staged' as const },
      ...{ before: hashOf(before), after, size, isBinary, diff, beforeContent: before, afterContent: content },
      ...{ mode: stood?.mode ?? null, createdAt: new Date(clock.now()) },
    }
    if (row.before === after) {
      await db.delete(artifacts).where(and(eq(artifacts.runId, runId), eq(artifacts.path, path)))
      return toArtifact({ ...row, state: 'discarded' })
    }
    await db
      .insert(artifacts)
      .values(row)
      .onConflictDoUpdate({ target: [artifacts.runId, artifacts.path], set: row })
    return toArtifact(row)
  }

  /** Bytes that each row keeps. */
  async function sizes(runId: string): Promise<{ path: string; bytes: number }[]> {
    const bytes = sql<number>`coalesce(length(${artifacts.beforeContent}), 0) + coalesce(length(${artifacts.afterContent}), 0)`.mapWith(Number)
    return db.select({ path: artifacts.path, bytes }).from(artifacts).where(eq(artifacts.runId, runId))
  }

  /** A file where a folder is, and one below a file, cannot both be. */
  async function refuseOverlap(runId: string, segments: readonly string[]): Promise<void> {
    const path = segments.join('/')
    if ((await files.kindOf(segments)) === 'folder')
      throw new GatewayError('invalid_request', `${path} is a folder: a file needs another name.`, { param: 'path' })
    for (const [other, staged] of await overlayOf(runId))
      if (staged !== null && (other.startsWith(`${path}/`) || path.startsWith(`${other}/`)))
        throw new GatewayError('invalid_request', `${path} and ${other}, which is staged, cannot both be files.`, { param: 'path' })
  }

  async function moved(runId: string, direction: Direction): Promise<Artifact[]> {
    // Two runs may have staged the same file: one at a time.
    await lock('moves', () => lock(`run ${runId}`, () => move(runId, direction, { db, log, files, maxFileBytes })))
    return list(runId)
  }

  const open = (runId: string): RunWorkspace => ({
    async read(path, signal) {
      const segments = toFileSegments(path)
      signal?.throwIfAborted()
      const content = await contentOf(runId, segments)
      if (content === null)
        throw new GatewayError('not_found', `There is no file ${JSON.stringify(segments.join('/'))} in the workspace. list_files shows what there is.`)
      return content
    },
    async list(path, { depth = 1, signal } = {}) {
      const folder = toSegments(path)
      return listEntries(folder, { files, overlay: await overlayOf(runId), depth: Math.min(Math.max(depth, 1), maxDepth), signal })
    },
    async search({ text, path = '', isRegex = false, limit = defaultMatches, signal }) {
      if (text === '') throw new GatewayError('invalid_request', 'There is nothing to search for: give a text.', { param: 'text' })
      const start = toSegments(path)
      const overlay = await overlayOf(runId)
      const isFile = start.length > 0 && (overlay.get(start.join('/')) != null || (await files.kindOf(start)) === 'file')
      const read = async (found: string) => {
        const segments = toSegments(found)
        try {
          return overlay.has(found) ? await contentOf(runId, segments) : ((await files.read(segments, maxFileBytes))?.content ?? null)
        } catch (error) {
          if (error instanceof GatewayError) return null
          throw error
        }
      }
      return searchLines(start, isFile, { files, overlay, text, isRegex, limit: Math.min(Math.max(limit, 1), maxMatches), signal, read })
    },
    async stage(path, content) {
      const segments = toFileSegments(path)
      return lock(`run ${runId}`, () => stage(runId, segments, content))
    },
    artifacts: () => list(runId),
  })

  return {
    open,
    artifacts: list,
    async patch(runId, artifactId) {
      const { path, before, after, beforeContent, afterContent } = await rowOf(runId, artifactId)
      return (await compare(path, before === null ? null : beforeContent, after === null ? null : afterContent)).patch
    },
    async content(runId, artifactId) {
      return (await rowOf(runId, artifactId)).afterContent
    },
    apply: (runId) => moved(runId, 'apply'),
    undo: (runId) => moved(runId, 'undo'),
    async discard(runId, tx) {
      await (tx ?? db)
        .update(artifacts)
        .set({ state: 'discarded' })
        .where(and(eq(artifacts.runId, runId), eq(artifacts.state, 'staged')))
    },
    async forget(runId, tx) {
      await (tx ?? db).delete(artifacts).where(eq(artifacts.runId, runId))
    },
  }
}

/** What is under way is not shown: until it has ended, it is as it was. */
const shownStates: Readonly<Record<ArtifactState, Artifact['state']>> = {
  ...{ staged: 'staged', applying: 'staged', applied: 'applied', undoing: 'applied', undone: 'undone', discarded: 'discarded' },
}

interface Described extends Omit<Artifact, 'change' | 'state'> {
  readonly state: ArtifactState
}

function toArtifact({ id, runId, path, state, size, before, after, isBinary, diff }: Described): Artifact {
  const change = before === null ? 'created' : after === null ? 'deleted' : 'modified'
  return { id, runId, path, change, state: shownStates[state], size, before, after, isBinary, diff }
}
