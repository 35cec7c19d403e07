/**
 * Putting staged files in their places, and back: all of a run's or none. The rows are the journal. What is to be done is written there before the first file
 * changes its name, so whoever comes after a crash goes on; each step asks first whether it has been done.
 */
import { and, eq, inArray } from 'drizzle-orm'
import { type Database, GatewayError, type Logger } from 'portico'
import { hashOf } from './contents.ts'
import type { Files } from './files.ts'
import { temporaryName, toSegments } from './paths.ts'
import { type ArtifactRow, type ArtifactState, artifacts } from './schema.ts'

/** Which way. */
export type Direction = 'apply' | 'undo'

const states = {
  apply: { ready: 'staged', busy: 'applying', done: 'applied' },
  undo: { ready: 'applied', busy: 'undoing', done: 'undone' },
} as const satisfies Record<Direction, Record<string, ArtifactState>>

/** One file on its way from one content to another. */
interface Step {
  readonly id: string
  readonly path: string
  readonly segments: readonly string[]
  readonly from: Side
  readonly to: Side
  readonly mode: number | null
}

/** A content and its hash; null = no file. */
interface Side {
  readonly hash: string | null
  readonly content: Uint8Array | null
}

/** What it works with. */
export interface MoveOptions {
  readonly db: Database
  readonly log: Logger
  readonly files: Files
  /** Bytes of a file that are hashed; a larger one has changed. */
  readonly maxFileBytes: number
}

/** @throws GatewayError `conflict`, naming the files that are not as they were left */
export async function move(runId: string, direction: Direction, options: MoveOptions): Promise<void> {
  const { db, files, log } = options
  const { ready, busy, done } = states[direction]
  const rows = await db.select().from(artifacts).where(eq(artifacts.runId, runId))
  const opposite = states[direction === 'apply' ? 'undo' : 'apply'].busy
  if (rows.some(({ state }) => state === opposite))
    throw new GatewayError('conflict', `The files of ${runId} are ${opposite} now, or were when the gateway ended. Let that end first: ask for it again.`)
  const begun = rows.filter(({ state }) => state === busy)
  const steps = (begun.length > 0 ? begun : rows.filter(({ state }) => state === ready)).map((row) => toStep(row, direction))
  if (steps.length === 0) return

  if (begun.length === 0) {
    const changed: string[] = []
    for (const step of steps) if ((await standing(step, options)) !== step.from.hash) changed.push(step.path)
    if (changed.length > 0) throw changedMeanwhile(changed, direction)
  }
  try {
    for (const step of steps) await prepare(step, step.to, files)
    if (begun.length === 0) await begin(runId, steps, direction, db)
  } catch (error) {
    if (begun.length === 0) await clear(steps, files)
    throw error
  }
  try {
    const changed: string[] = []
    for (const step of steps) if (!(await take(step, options))) changed.push(step.path)
    if (changed.length > 0) throw changedMeanwhile(changed, direction)
  } catch (error) {
    await rollBack(steps, options)
    await clear(steps, files)
    await setState(runId, busy, ready, db)
    log.warn('Files were not put in their places; all are as before', { runId, direction, error })
    throw error
  }
  await clear(steps, files)
  await setState(runId, busy, done, db)
}

/** Notes that it begins, if the rows still say what was prepared. */
async function begin(runId: string, steps: readonly Step[], direction: Direction, db: Database): Promise<void> {
  const { ready, busy } = states[direction]
  await db.transaction(async (tx) => {
    const now = await tx
      .select({ id: artifacts.id, after: artifacts.after })
      .from(artifacts)
      .where(and(eq(artifacts.runId, runId), eq(artifacts.state, ready)))
      .for('update')
    const known = new Map(steps.map(({ id, from, to }) => [id, direction === 'apply' ? to.hash : from.hash]))
    if (now.length !== steps.length || now.some(({ id, after }) => known.get(id) !== after))
      throw new GatewayError('conflict', `What ${runId} has staged was changed in this moment. Look at it, and decide again.`)
    const ids = [...known.keys()]
    await tx.update(artifacts).set({ state: busy }).where(inArray(artifacts.id, ids))
  })
}

/** One file gets its new content, or its end. False when it is neither as before nor as it is to be. */
async function take(step: Step, options: MoveOptions): Promise<boolean> {
  const now = await standing(step, options)
  if (now === step.to.hash) return true
  if (now !== step.from.hash) return false
  await place(step, step.to, options.files)
  return true
}

/** Puts back what was there before. What somebody else has written since stays. */
async function rollBack(steps: readonly Step[], options: MoveOptions): Promise<void> {
  for (const step of steps) {
    if ((await standing(step, options)) !== step.to.hash || step.to.hash === step.from.hash) continue
    await prepare(step, step.from, options.files)
    await place(step, step.from, options.files)
  }
}

async function prepare({ segments, id, mode }: Step, { content }: Side, files: Files): Promise<void> {
  if (content !== null) await files.prepare(segments, temporaryName(id), content, mode)
}

async function place({ segments, id }: Step, { content }: Side, files: Files): Promise<void> {
  if (content === null) await files.remove(segments)
  else await files.commit(segments, temporaryName(id))
}

/** Removes what was prepared and is not needed. */
async function clear(steps: readonly Step[], files: Files): Promise<void> {
  for (const { segments, id } of steps) await files.remove(segments, temporaryName(id)).catch(() => undefined)
}

/** The hash of what stands at the path now; something else for what is no file of ours: a link, a folder, one that is too large. */
async function standing({ segments }: Step, { files, maxFileBytes }: MoveOptions): Promise<string | null | undefined> {
  try {
    return hashOf((await files.read(segments, maxFileBytes))?.content ?? null)
  } catch (error) {
    if (error instanceof GatewayError) return undefined
    throw error
  }
}

async function setState(runId: string, from: ArtifactState, to: ArtifactState, db: Database): Promise<void> {
  await db
    .update(artifacts)
    .set({ state: to })
    .where(and(eq(artifacts.runId, runId), eq(artifacts.state, from)))
}

function toStep({ id, path, before, after, beforeContent, afterContent, mode }: ArtifactRow, direction: Direction): Step {
  const [old, now] = [
    { hash: before, content: before === null ? null : beforeContent },
    { hash: after, content: after === null ? null : afterContent },
  ]
  const [from, to] = direction === 'apply' ? [old, now] : [now, old]
  return { id, path, segments: toSegments(path), from, to, mode }
}

function changedMeanwhile(paths: readonly string[], direction: Direction): GatewayError {
  const since = direction === 'apply' ? 'since they were staged' : 'since they were applied'
  const message = `Nothing was written: ${paths.slice(0, 10).join(', ')}${paths.length > 10 ? ` and ${paths.length - 10} more` : ''} changed ${since}.`
  return new GatewayError('conflict', message, { details: { files: paths } })
}
