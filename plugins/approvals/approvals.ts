/** The service: gates are rows. Whoever decides locks the row, and writes with the decision what follows from it. */
import { randomBytes } from 'node:crypto'
import { and, asc, desc, eq, gt, isNull, lt, lte, min, or, type SQL, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, hasScope, type Logger, type PluginContext, type Principal, type Transaction } from 'portico'
import { storable, storableJson } from 'portico/plugins/database'
import { canonicalHash } from './canonical.ts'
import {
  type Approval,
  type ApprovalDecision,
  type ApprovalListener,
  type ApprovalState,
  type Approvals,
  approvalRequested,
  approvalResolved,
  approve,
} from './contract.ts'
import { type ApprovalRow, approvals } from './schema.ts'

/** The event types this plugin owns. */
export const approvalEvents = [approvalRequested, approvalResolved] as const

/** What it works with. */
export interface ApprovalsOptions {
  readonly db: Database
  readonly clock: Clock
  /** ms. */
  readonly deadline: number
  readonly publish: PluginContext<unknown, typeof approvalEvents>['publish']
  listeners(): readonly ApprovalListener[]
  readonly log: Logger
  /** The database is away: a normal state, waited out. */
  isAway(error: unknown): boolean
  /** A gate was asked for that closes by itself then. */
  onDeadline(at: number): void
}

/** What a sweep of the deadlines found. */
export interface Sweep {
  /** When the next gate closes by itself, ms since the epoch; null = none waits. */
  readonly next: number | null
  /** Some are due and still open: held by a decision, or a listener failed. */
  readonly isUnfinished: boolean
}

/** Gates of one run that are open at once. */
const maxPending = 200
const sweepBatch = 100
const longestText = 20_000

/** Makes it; `expire` closes the gates whose time is over, until the signal aborts. @throws when the database is away */
export function createApprovals(options: ApprovalsOptions): Approvals & { expire(signal: AbortSignal): Promise<Sweep> } {
  const { db, clock, deadline, publish, listeners, log, isAway, onDeadline } = options
  const isPending = eq(approvals.state, 'pending')

  /** Closes a gate whose row the transaction has locked, tells who waits for it. */
  async function resolve(tx: Transaction, row: ApprovalRow, change: Partial<ApprovalRow> & { state: ApprovalState }, isTold = true): Promise<Approval> {
    const [closed] = await tx
      .update(approvals)
      .set({ ...change, decidedAt: new Date(clock.now()) })
      .where(eq(approvals.id, row.id))
      .returning()
    const approval = toApproval(closed ?? row)
    const { id: approvalId, runId, kind, title, state, decidedBy, decidedVia } = approval
    await publish(
      approvalResolved,
      { approvalId, runId, kind, title, state: state as 'approved', decidedBy, decidedVia },
      { tx, principal: approval.owner, subject: runId },
    )
    if (isTold) for (const listener of listeners()) await listener.resolved(approval, tx)
    return approval
  }

  /** Closes one whose time is over, and tells; false = a decision holds it, or was faster, or a listener failed. */
  async function expireOne(id: string): Promise<boolean> {
    try {
      return await db.transaction(async (tx) => {
        const [row] = await tx
          .select()
          .from(approvals)
          .where(and(eq(approvals.id, id), isPending))
          .for('update', { skipLocked: true })
        if (row) await resolve(tx, row, { state: 'expired', decidedVia: 'deadline' })
        return row !== undefined
      })
    } catch (error) {
      if (isAway(error)) throw error
      log.error(`The deadline of ${id} could not be kept; it is tried again`, { error })
      return false
    }
  }

  /** Which are in a state now, whether the sweep has come or not. */
  function inState(state: ApprovalState): SQL | undefined {
    const now = new Date(clock.now())
    if (state === 'pending') return and(isPending, gt(approvals.expiresAt, now))
    if (state === 'expired') return or(eq(approvals.state, 'expired'), and(isPending, lte(approvals.expiresAt, now)))
    return eq(approvals.state, state)
  }

  return {
    async request(tx, { runId, owner, kind, callId, title, arguments: args, question, choices = [], deadline: own = deadline }) {
      const exact = storableJson(args ?? null)
      const argumentsHash = canonicalHash(exact)
      const isSame = and(eq(approvals.runId, runId), eq(approvals.kind, kind), callId === undefined ? isNull(approvals.callId) : eq(approvals.callId, callId))
      const [known] = await tx.select().from(approvals).where(and(isSame, isPending)).for('update')
      if (known?.argumentsHash === argumentsHash) return toApproval(known)
      if (known) await resolve(tx, known, { state: 'withdrawn', decidedVia: 'run', comment: 'The arguments are others now.' }, false)
      const open = await tx.$count(approvals, and(eq(approvals.runId, runId), isPending))
      if (open >= maxPending) throw new GatewayError('unprocessable', `${maxPending} approvals of this run are open already: decide some.`)
      const now = clock.now()
      const [row] = await tx
        .insert(approvals)
        .values({
          ...{ id: `apr_${randomBytes(12).toString('hex')}`, runId, owner, kind, callId: callId ?? null, title: storable(title), arguments: exact },
          ...{ argumentsHash, question: question === undefined ? null : storable(question), choices: storableJson(choices), state: 'pending' as const },
          ...{ createdAt: new Date(now), expiresAt: new Date(now + own) },
        })
        .returning()
      const approval = toApproval(row as ApprovalRow)
      const about = { approvalId: approval.id, runId, kind, title: approval.title, expiresAt: approval.expiresAt.toISOString() }
      await publish(approvalRequested, about, { tx, principal: owner, subject: runId })
      onDeadline(now + own)
      return approval
    },

    async ofRun(runId, tx) {
      const rows = await (tx ?? db).select().from(approvals).where(eq(approvals.runId, runId)).orderBy(asc(approvals.seq))
      return rows.map(toApproval)
    },

    async list(principal, { state, runId, limit = 50, before } = {}) {
      const wanted: (SQL | undefined)[] = hasScope(principal, 'admin') ? [] : [eq(approvals.owner, principal.id)]
      if (state) wanted.push(inState(state))
      if (runId) wanted.push(eq(approvals.runId, runId))
      if (before) wanted.push(lt(approvals.seq, sql`(select seq from approvals_approvals where id = ${before})`))
      const rows = await db
        .select()
        .from(approvals)
        .where(and(...wanted))
        .orderBy(desc(approvals.seq))
        .limit(limit)
      return rows.map((row) => toApproval(asOf(row, clock.now())))
    },

    async get(id, principal) {
      const [row] = await db.select().from(approvals).where(eq(approvals.id, id))
      if (!row || !maySee(principal, row)) throw unknown(id)
      return toApproval(asOf(row, clock.now()))
    },

    decide: (id, decision, principal) =>
      db.transaction(async (tx) => {
        const [locked] = await tx.select().from(approvals).where(eq(approvals.id, id)).for('update')
        if (!locked || !maySee(principal, locked)) throw unknown(id)
        refuseActor(principal)
        const row = asOf(locked, clock.now())
        if (isRepeated(row, decision, principal)) return toApproval(row)
        if (row.state !== 'pending') throw over(row)
        if (decision.argumentsHash !== undefined && decision.argumentsHash !== row.argumentsHash)
          throw new GatewayError('conflict', `The arguments of ${id} are not those you saw: look at it again.`, { param: 'argumentsHash' })
        const state = decision.decision === 'approve' ? 'approved' : 'denied'
        const answer = answerOf(row, decision)
        const comment = decision.comment === undefined ? null : bounded('comment', decision.comment)
        return resolve(tx, row, { state, answer, comment, decidedBy: principal.id, decidedVia: decision.via })
      }),

    async withdraw(tx, runId) {
      const rows = await tx
        .select()
        .from(approvals)
        .where(and(eq(approvals.runId, runId), isPending))
        .for('update')
      for (const row of rows) await resolve(tx, row, { state: 'withdrawn', decidedVia: 'run' }, false)
    },

    async forget(tx, runId) {
      await tx.delete(approvals).where(eq(approvals.runId, runId))
    },

    async expire(signal) {
      const due = new Date(clock.now())
      let isUnfinished = false
      let after = 0
      for (;;) {
        const batch = await db
          .select({ id: approvals.id, seq: approvals.seq })
          .from(approvals)
          .where(and(isPending, lte(approvals.expiresAt, due), gt(approvals.seq, after)))
          .orderBy(asc(approvals.seq))
          .limit(sweepBatch)
        for (const { id, seq } of batch) {
          if (signal.aborted) return { next: null, isUnfinished }
          if (!(await expireOne(id))) isUnfinished = true
          after = seq
        }
        if (batch.length < sweepBatch) break
      }
      const [next] = await db
        .select({ at: min(approvals.expiresAt) })
        .from(approvals)
        .where(and(isPending, gt(approvals.expiresAt, due)))
      return { next: next?.at?.getTime() ?? null, isUnfinished }
    },
  }
}

/** Its owner, and admins. */
function maySee(principal: Principal, { owner }: ApprovalRow): boolean {
  return principal.id === owner || hasScope(principal, 'admin')
}

/** A gate as it stands at a time: one whose deadline has passed is denied, even when the sweep has not come yet. */
function asOf(row: ApprovalRow, now: number): ApprovalRow {
  if (row.state !== 'pending' || row.expiresAt.getTime() > now) return row
  return { ...row, state: 'expired', decidedVia: 'deadline', decidedAt: row.expiresAt }
}

/** The same decision about the same arguments by the same principal, once more. */
function isRepeated(row: ApprovalRow, { decision, answer, argumentsHash }: ApprovalDecision, principal: Principal): boolean {
  const isSame = row.state === (decision === 'approve' ? 'approved' : 'denied') && row.decidedBy === principal.id
  return (
    isSame && (row.answer ?? undefined) === (answer === undefined ? undefined : storable(answer)) && (argumentsHash ?? row.argumentsHash) === row.argumentsHash
  )
}

function refuseActor(principal: Principal): void {
  if (principal.kind === 'agent') throw new GatewayError('forbidden', 'An agent decides no approvals, whatever its key says: ask a person.')
  if (!hasScope(principal, approve.id)) throw new GatewayError('insufficient_scope', 'Deciding approvals needs the scope "approve".')
}

function answerOf({ kind, choices }: ApprovalRow, { decision, answer }: ApprovalDecision): string | null {
  const wrong = (why: string) => new GatewayError('validation_failed', `answer: ${why}`, { param: 'answer' })
  if (kind !== 'question' || decision === 'deny') {
    if (answer !== undefined) throw wrong('only a question is answered; approve or deny this one.')
    return null
  }
  if (answer === undefined || answer === '') throw wrong('a question is approved by an answer that is not empty.')
  if (choices.length > 0 && !choices.includes(answer)) throw wrong(`expected one of ${choices.map((each) => JSON.stringify(each)).join(', ')}.`)
  return bounded('answer', answer)
}

function bounded(param: string, text: string): string {
  if (text.length <= longestText) return storable(text)
  throw new GatewayError('validation_failed', `${param}: at most ${longestText} characters.`, { param })
}

function unknown(id: string): GatewayError {
  return new GatewayError('not_found', `There is no approval ${JSON.stringify(id.slice(0, 100))}: GET /api/approvals lists yours.`, { param: 'approvalId' })
}

function over({ id, state, decidedBy, decidedAt }: ApprovalRow): GatewayError {
  const at = decidedAt ? ` at ${decidedAt.toISOString()}` : ''
  const by = decidedBy ? ` by ${decidedBy}` : ''
  const said = state === 'expired' ? `Its deadline passed${at}, which counts as denied` : `It was ${state} already${by}${at}`
  return new GatewayError('conflict', `${id} cannot be decided any more. ${said}.`, {
    details: { state, decidedBy, decidedAt: decidedAt?.toISOString() ?? null },
  })
}

function toApproval({ seq: _, ...row }: ApprovalRow): Approval {
  return row
}
