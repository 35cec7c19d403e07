/** How runs come in: the session, the run, its message and its event in one transaction; the same key twice gives the same run. */
import { randomBytes } from 'node:crypto'
import { and, eq, inArray, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Principal, type Transaction } from 'portico'
import { storableJson } from 'portico/plugins/database'
import type { Models } from 'portico/plugins/models'
import type { RunsConfig } from './config.ts'
import { type AgentSource, type Run, type RunSpec, type RunSubmission, sessionCreated } from './contract.ts'
import type { HeldRun, PublishRunEvent, Records } from './record.ts'
import { findRun, ownRun, toRun } from './rows.ts'
import { activeStates, dependencies, runs, type SessionRow } from './schema.ts'
import type { Sessions } from './sessions.ts'

/** What it works with. */
export interface SubmitOptions {
  readonly db: Database
  readonly clock: Clock
  readonly config: RunsConfig
  readonly records: Records
  readonly sessions: Sessions
  readonly models: Models
  readonly publish: PublishRunEvent
  /** This process. */
  readonly owner: string
  agents(): readonly AgentSource[]
  /** True when somebody who waits can be served. @throws GatewayError */
  admit(): void
  /** A run that this process has taken on with its submission, or one that waits in the queue. */
  onSubmitted(run: Run, held: HeldRun | undefined, signal: AbortSignal | undefined): void
}

const maxDepth = 3
/** Keeps these locks apart from others’. */
const idempotencyLock = 0x69646d70
// Names of models that do not chat.
const mute = /embed|rerank|whisper|tts|moderation/i

/** Makes what takes runs in. */
export function createSubmit(options: SubmitOptions) {
  const { db, clock, config, records, sessions, models, publish, owner, agents, admit, onSubmitted } = options

  /** The first model that chats; the demo's only when there is no other. */
  async function anyModel(): Promise<string> {
    const list = (await models.list()).filter(({ id }) => !mute.test(id))
    const found = list.find(({ provider }) => provider !== 'demo') ?? list[0]
    if (found) return found.id
    throw new GatewayError(
      'unavailable',
      'There is no model to chat with. Start Ollama, or name a provider under [models.providers.NAME] in portico.toml: "portico doctor" says more.',
    )
  }

  async function agentSpec(agent: string, principal: Principal): Promise<RunSpec | undefined> {
    const { instructions, tools, maxSteps, timeout, model = '' } = config
    const preset = { agent: 'default', model, fallbacks: [], instructions, tools, maxSteps, timeout }
    for (const source of agents()) {
      const found = await source.find(agent, principal, preset)
      if (found) return found
    }
    return agent === 'default' ? preset : undefined
  }

  /** The agent as it is now, with what this run has otherwise, its model known. */
  async function specOf({ agent = 'default', principal, override = {}, sessionKey, preferredModel = '' }: RunSubmission): Promise<RunSpec> {
    const spec = await agentSpec(agent, principal)
    if (!spec)
      throw new GatewayError('not_found', `There is no agent ${JSON.stringify(agent.slice(0, 100))}: GET /api/agents lists yours.`, { param: 'agentId' })
    const session = sessionKey === undefined ? undefined : await sessions.find(principal, sessionKey)
    const model = override.model ?? session?.model ?? (preferredModel || spec.model || (await anyModel()))
    await models.resolve(model)
    const given = Object.fromEntries(Object.entries(override).filter(([, value]) => value !== undefined))
    return { ...spec, ...given, model, agent }
  }

  async function insert(tx: Transaction, submission: RunSubmission, spec: RunSpec, parent: Run | undefined) {
    const { principal, input, sessionKey, channel = 'api', priority = 0, dependsOn = [], interactive, idempotency, metadata = {}, startAt } = submission
    if (idempotency) await refuseTaken(tx, principal, idempotency.key)
    const { session, isNew } = await sessions.open(tx, { principal, key: sessionKey, spec, channel, text: input.text })
    const now = new Date(clock.now())
    // At once only when nothing is before it in its session; a child's parent waits for it with its place at work.
    const isAwaited = interactive !== undefined || parent !== undefined
    const begin = isAwaited && startAt === undefined && dependsOn.length === 0 && (isNew || (await isIdle(tx, session)))
    if (!begin) await refuseTooMany(tx, principal)
    const id = `run_${randomBytes(12).toString('hex')}`
    const [row] = await tx
      .insert(runs)
      .values({
        ...{ id, principalId: principal.id, principal, sessionId: session.id, agent: spec.agent, spec: storableJson(spec), input: storableJson(input) },
        ...{ parentId: parent?.id ?? null, depth: parent ? parent.depth + 1 : 0, state: begin ? 'running' : 'queued', priority, model: spec.model },
        ...{ startAt: startAt ?? sql`clock_timestamp()`, maxConcurrent: spec.maxConcurrent ?? null, isInteractive: interactive !== undefined },
        ...{ node: interactive ? owner : null, leaseOwner: begin ? owner : null, leaseUntil: begin || interactive ? records.leased : null },
        ...{ leaseEpoch: begin ? 1 : 0, lastSeq: begin ? 2 : 1, startedAt: begin ? now : null, createdAt: now, metadata: storableJson(metadata) },
        ...{ idempotencyKey: idempotency?.key ?? null, requestHash: idempotency?.hash ?? null },
      })
      .returning()
    if (!row) throw new GatewayError('internal_error', 'The run was not stored: try again.')
    if (dependsOn.length > 0) await tx.insert(dependencies).values(dependsOn.map((each) => ({ runId: id, dependsOn: each })))
    await sessions.say(tx, session.id, id, input, isNew)
    const run = toRun(row, session.key)
    const whose = { tx, principal: principal.id, subject: session.key }
    if (isNew) await publish(sessionCreated, { sessionKey: session.key, agent: spec.agent }, whose)
    const queued = { key: 'queued', type: 'queued' as const, data: {} }
    const started = { key: 'started:1', type: 'started' as const, data: { epoch: 1, isResumed: false } }
    const entries = await records.insert(tx, run, begin ? [queued, started] : [queued], row.lastSeq)
    return { run, isNew, held: begin ? { run, epoch: 1, entries, worked: 0, isFirst: isNew } : undefined }
  }

  /** Who comes with the same key at the same time waits here, before anything is locked that the run at work needs. */
  async function refuseTaken(tx: Transaction, principal: Principal, key: string): Promise<void> {
    await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`${principal.id} ${key}`}, ${idempotencyLock}))`)
    const [taken] = await tx
      .select({ id: runs.id })
      .from(runs)
      .where(and(eq(runs.principalId, principal.id), eq(runs.idempotencyKey, key)))
    if (taken) throw new Taken()
  }

  async function isIdle(tx: Transaction, session: SessionRow): Promise<boolean> {
    const [other] = await tx
      .select({ id: runs.id })
      .from(runs)
      .where(and(eq(runs.sessionId, session.id), inArray(runs.state, [...activeStates])))
      .limit(1)
    return other === undefined
  }

  async function refuseTooMany(tx: Transaction, principal: Principal): Promise<void> {
    const [row] = await tx
      .select({ count: sql<number>`count(*)::int` })
      .from(runs)
      .where(and(eq(runs.principalId, principal.id), eq(runs.state, 'queued')))
    if ((row?.count ?? 0) < config.maxQueued) return
    throw new GatewayError('rate_limit_exceeded', `${config.maxQueued} of your runs wait already (runs.maxQueued): wait for some, or cancel them.`, {
      retryAfter: 10,
    })
  }

  async function parentOf({ parentId, principal }: RunSubmission): Promise<Run | undefined> {
    if (parentId === undefined) return undefined
    const parent = await ownRun(db, parentId, principal)
    if (parent.depth >= maxDepth)
      throw new GatewayError('unprocessable', `Agents may call agents ${maxDepth} deep: do the work in this one.`, { param: 'parentId' })
    return parent
  }

  /** The run that was taken in under this key. */
  async function sameAgain({ principal, idempotency }: RunSubmission): Promise<Run | undefined> {
    if (!idempotency) return undefined
    const [row] = await db
      .select({ id: runs.id, hash: runs.requestHash })
      .from(runs)
      .where(and(eq(runs.principalId, principal.id), eq(runs.idempotencyKey, idempotency.key)))
    if (!row) return undefined
    if (row.hash !== idempotency.hash)
      throw new GatewayError('conflict', 'This Idempotency-Key came with another request before: send a new key with a new request.', {
        param: 'Idempotency-Key',
      })
    return findRun(db, row.id)
  }

  return async function submit(submission: RunSubmission): Promise<Run> {
    const known = await sameAgain(submission)
    if (known) return known
    submission.interactive?.signal.throwIfAborted()
    for (const url of submission.input.images ?? []) refuseBadImage(url)
    if (submission.interactive) admit()
    const { principal, dependsOn = [] } = submission
    for (const id of dependsOn) await ownRun(db, id, principal)
    const [spec, parent] = [await specOf(submission), await parentOf(submission)]
    try {
      const { run, held, isNew } = await db.transaction(async (tx) => {
        const taken = await insert(tx, submission, spec, parent)
        await submission.also?.(taken.run, tx)
        return taken
      })
      onSubmitted(run, held, submission.interactive?.signal)
      if (isNew) sessions.forgetUnused(principal)
      return run
    } catch (error) {
      const first = error instanceof Taken ? await sameAgain(submission) : undefined
      if (first) return first
      throw error
    }
  }
}

function refuseBadImage(url: string): void {
  const isGood = url.startsWith('data:') ? /^data:image\/[\w.+-]+;base64,[A-Za-z0-9+/]*={0,2}$/.test(url) : /^https?:/.test(url) && URL.canParse(url)
  if (isGood) return
  throw new GatewayError('validation_failed', 'images: expected URLs of http or https, or data: URLs of an image in base64.', { param: 'images' })
}

/** The key of the run was taken while it was written. */
class Taken extends Error {}

/** Appends a message to a run that is not over; its holder hears it before its next model call. */
export async function steer(tx: Transaction, run: Run, text: string, records: Records): Promise<boolean> {
  const [row] = await tx
    .update(runs)
    .set({ lastSeq: sql`${runs.lastSeq} + 1` })
    .where(and(eq(runs.id, run.id), inArray(runs.state, [...activeStates])))
    .returning({ lastSeq: runs.lastSeq })
  if (!row) return false
  await records.insert(tx, run, [{ key: `message:${randomBytes(9).toString('hex')}`, type: 'message', data: { text } }], row.lastSeq)
  return true
}
