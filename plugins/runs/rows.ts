/** Runs as they are read from the database. */
import { and, asc, eq, gt } from 'drizzle-orm'
import { type Database, GatewayError, hasScope, type Principal, type Transaction } from 'portico'
import type { Run, RunEntry, Session } from './contract.ts'
import { entries, type RunRow, runs, type SessionRow, sessions } from './schema.ts'

/** Entries of one page. */
export const maxEntries = 1_000

/** A run, with what its session is called. */
export function toRun(row: RunRow, sessionKey: string): Run {
  const { id, state, principal, sessionId, parentId, depth, spec, input, model, result, finishReason, error, steps, priority } = row
  const { isInteractive, metadata, createdAt, startedAt, endedAt, inputTokens, outputTokens, cost } = row
  return {
    ...{ id, state, principal, sessionId, sessionKey, parentId, depth, spec, input, model, result, finishReason, error, steps, priority },
    ...{ isInteractive, metadata, createdAt, startedAt, endedAt, usage: { inputTokens, outputTokens, cost } },
  }
}

/** A session, without whose it is. */
export function toSession({ id, key, agent, title, model, channel, createdAt, updatedAt }: SessionRow): Session {
  return { id, key, agent, title, model, channel, createdAt, updatedAt }
}

/** The row of a run, with what its session is called; or undefined. */
export async function findRow(on: Database | Transaction, id: string): Promise<{ row: RunRow; key: string } | undefined> {
  const [found] = await on.select({ row: runs, key: sessions.key }).from(runs).innerJoin(sessions, eq(sessions.id, runs.sessionId)).where(eq(runs.id, id))
  return found
}

/** The run, or undefined. */
export async function findRun(on: Database | Transaction, id: string): Promise<Run | undefined> {
  const found = await findRow(on, id)
  return found && toRun(found.row, found.key)
}

/** The run, if the principal may see it. @throws GatewayError `not_found` */
export async function ownRun(on: Database | Transaction, id: string, principal: Principal): Promise<Run> {
  const run = await findRun(on, id)
  if (!run || !maySee(principal, run)) throw unknownRun(id)
  return run
}

/** True for its owner, and for admins. */
export function maySee(principal: Principal, run: Run): boolean {
  return run.principal.id === principal.id || hasScope(principal, 'admin')
}

/** Says that there is none. */
export function unknownRun(id: string): GatewayError {
  return new GatewayError('not_found', `There is no run ${JSON.stringify(id.slice(0, 100))}: GET /v1/runs lists yours.`, { param: 'runId' })
}

/** Entries after a position, in order; all of them, or a page. */
export async function readEntries(on: Database | Transaction, runId: string, since = 0, limit?: number): Promise<RunEntry[]> {
  const query = on
    .select({ seq: entries.seq, type: entries.type, at: entries.at, data: entries.data })
    .from(entries)
    .where(and(eq(entries.runId, runId), gt(entries.seq, since)))
    .orderBy(asc(entries.seq))
  return limit === undefined ? query : query.limit(limit)
}
