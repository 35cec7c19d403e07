/** How runs come in: the session, the run, its message and its event in one transaction; the same key twice gives the same run. */
import { randomBytes } from 'node:crypto'
import { and, eq, inArray, sql } from 'drizzle-orm'
import { type Clock, type Database, GatewayError, type Transaction } from 'portico'
import { callOf, storable, storableJson } from 'portico/plugins/database'
import type { EventLog } from 'portico/plugins/event-log'
import type { Models } from 'portico/plugins/models'
import type { RunsConfig } from './config.ts'
import { type AgentSource, agentProvider, type Run, type RunEntry, type RunSpec, type RunSubmission, sessionCreated } from './contract.ts'
import type { HeldRun, PublishRunEvent, Records } from './record.ts'
import { findRun, ownRun } from './rows.ts'
import { activeStates, entries, runs, type SessionRow } from './schema.ts'
import { keepable, type Sessions, titleOf, unknownSession } from './sessions.ts'

/** What it works with. */
export interface SubmitOptions {
  readonly db: Database
  readonly clock: Clock
  readonly config: RunsConfig
  readonly records: Records
  readonly sessions: Sessions
  readonly models: Models
  readonly publish: PublishRunEvent
  batch: EventLog['batch']
  /** This process. */
  readonly owner: string
  agents(): readonly AgentSource[]
  /** True when somebody who waits can be served. @throws GatewayError */
  admit(): void
  /** A place at work for a run that nobody waits for, kept until it is given back; undefined = there is none. */
  reserve(): (() => void) | undefined
  /** A run that this process has taken on with its submission, or one that waits in the queue. */
  onSubmitted(run: Run, held: HeldRun | undefined, signal: AbortSignal | undefined): void
}

const maxDepth = 3
/** What the function `runs_submit` refuses one run too many with. */
const tooMany = 'PR429'
const callSubmit = callOf('runs_submit')
// Names of models that do not chat.
const mute = /embed|rerank|whisper|tts|moderation/i

/** Makes what takes runs in. */
export function createSubmit(options: SubmitOptions) {
  const { db, clock, config, records, sessions, models, publish, batch: openBatch, owner, agents, admit, reserve, onSubmitted } = options

  /** The first model that chats; the demo's only when there is no other. */
  async function anyModel(): Promise<string> {
    const list = (await models.list()).filter(({ id, provider }) => !mute.test(id) && provider !== agentProvider)
    const found = list.find(({ provider }) => provider !== 'demo') ?? list[0]
    if (found) return found.id
    throw new GatewayError(
      'unavailable',
      'There is no model to chat with. Start Ollama, or name a provider under [models.providers.NAME] in portico.toml: "portico doctor" says more.',
    )
  }

  async function agentSpec(agent: string, { principal, preset: given = {} }: RunSubmission): Promise<RunSpec | undefined> {
    const { instructions, tools, maxSteps, timeout, model = '' } = config
    const preset = { agent: 'default', model, fallbacks: [], instructions, tools, maxSteps, timeout, ...defined(given) }
    for (const source of agents()) {
      const found = await source.find(agent, principal, preset)
      if (found) return found
    }
    return agent === 'default' ? preset : undefined
  }

  /** The agent as it is now, with what this run has otherwise, its model known; and the session it goes on with. */
  async function specOf(submission: RunSubmission): Promise<{ spec: RunSpec; session: SessionRow | undefined }> {
    const { principal, sessionKey } = submission
    const session = sessionKey === undefined ? undefined : await sessions.find(principal, sessionKey)
    const { agent, override } = agentOf(submission, session)
    const spec = await agentSpec(agent, submission)
    if (!spec)
      throw new GatewayError('not_found', `There is no agent ${JSON.stringify(agent.slice(0, 100))}: GET /api/agents lists yours.`, { param: 'agentId' })
    // A session that another agent goes on with brings that one's model to nobody.
    const model = override.model ?? (session?.agent === agent ? session.model : undefined) ?? (spec.model || (await anyModel()))
    await models.resolve(model)
    return { spec: { ...spec, ...override, model, agent }, session }
  }

  /** The run's rows and events, by one call of the database. */
  async function insert(on: Database | Transaction, run: Run, submission: RunSubmission, begins: 'awaited' | 'free' | 'no', newSession: string) {
    const { principal, input, channel = 'api', dependsOn = [], interactive, idempotency, startAt } = submission
    const { id, spec } = run
    const [always, ifNew, ifBegun] = [openBatch(), openBatch(), openBatch()]
    const whose = { principal: principal.id, subject: run.sessionKey }
    await publish(sessionCreated, { sessionKey: run.sessionKey, agent: spec.agent }, { ...whose, tx: ifNew.tx })
    await records.announce(always.tx, run, { type: 'queued', data: {} })
    await records.announce(ifBegun.tx, run, { type: 'started', data: { isResumed: false } })
    await submission.announce?.(run, always.tx)
    const row = {
      ...{ id, principalId: principal.id, parentId: run.parentId, depth: run.depth, priority: run.priority, startAt, at: run.createdAt, begins, owner },
      ...{ isInteractive: interactive !== undefined, lease: config.lease, maxQueued: config.maxQueued },
      ...{ idempotencyKey: idempotency?.key, requestHash: idempotency?.hash },
    }
    const session = {
      ...{ id: newSession, key: run.sessionKey, isId: submission.sessionKey?.startsWith('sess_') === true },
      ...{ title: titleOf(input.text), channel, ttl: spec.sessionTtl, maxMessages: config.maxMessages },
    }
    const { images = [] } = input
    const kept = images.length > 0 ? JSON.stringify(keepable(images, config.maxImages)) : null
    const json = [row, storableJson(principal), spec, run.input, run.metadata, session].map((each) => JSON.stringify(each))
    const said = [storable(input.text), kept, dependsOn.length > 0 ? dependsOn : null]
    const events = [always, ifNew, ifBegun].map((batch) => batch.json())
    const { rows } = await on.execute<Submitted>(callSubmit(...json, ...said, ...events))
    const { outcome, session_id: sessionId, session_key: sessionKey, is_new: isNew, created_ms: ms } = rows[0] as Submitted
    if (outcome === 'taken') throw new Taken()
    if (outcome === 'unknown_session') throw unknownSession(run.sessionKey)
    const createdAt = new Date(ms)
    const begun = outcome === 'begun' ? { state: 'running' as const, startedAt: createdAt } : {}
    return { run: { ...run, sessionId, sessionKey, createdAt, ...begun }, isNew, isBegun: outcome === 'begun', committed: () => always.committed() }
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
    const { principal, dependsOn = [], interactive, startAt, priority = 0, metadata = {}, input } = submission
    for (const id of dependsOn) await ownRun(db, id, principal)
    const [{ spec, session }, parent] = [await specOf(submission), await parentOf(submission)]
    const newSession = `sess_${randomBytes(9).toString('hex')}`
    const draft: Run = {
      id: `run_${randomBytes(12).toString('hex')}`,
      ...{ state: 'queued', principal, priority, model: spec.model, isInteractive: interactive !== undefined },
      ...{ parentId: parent?.id ?? null, depth: parent ? parent.depth + 1 : 0 },
      ...{ sessionId: session?.id ?? newSession, sessionKey: session?.key ?? submission.sessionKey ?? newSession },
      ...{ spec: storableJson(spec), input: storableJson(input), metadata: storableJson(metadata), result: null, finishReason: null, error: null, steps: 0 },
      ...{ usage: { inputTokens: 0, outputTokens: 0, cost: null }, createdAt: new Date(clock.now()), startedAt: null, endedAt: null },
    }
    // A child's parent waits for it with its own place at work.
    const isAwaited = interactive !== undefined || parent !== undefined
    const isFree = startAt === undefined && dependsOn.length === 0
    const place = isFree && !isAwaited && spec.maxConcurrent === undefined ? reserve() : undefined
    const begins = isFree && isAwaited ? 'awaited' : place ? 'free' : 'no'
    try {
      const put = async (on: Database | Transaction) => {
        const taken = await insert(on, draft, submission, begins, newSession)
        await submission.also?.(taken.run, on as Transaction)
        return taken
      }
      const { run, isNew, isBegun, committed } = submission.also ? await db.transaction(put) : await put(db)
      committed()
      onSubmitted(run, isBegun ? toHeld(run, isNew) : undefined, interactive?.signal)
      if (isNew) sessions.forgetUnused(principal)
      return run
    } catch (error) {
      if (codeOf(error) === tooMany) throw tooManyQueued(config.maxQueued)
      const first = error instanceof Taken ? await sameAgain(submission) : undefined
      if (first) return first
      throw error
    } finally {
      place?.()
    }
  }
}

/** As the function `runs_submit` says it. */
type Submitted = { outcome: 'begun' | 'queued' | 'taken' | 'unknown_session'; session_id: string; session_key: string; is_new: boolean; created_ms: number }

/** A run that was begun with its submission: its first entries are written. */
function toHeld(run: Run, isFirst: boolean): HeldRun {
  const at = run.createdAt
  const entries: RunEntry[] = [
    { seq: 1, type: 'queued', at, data: {} },
    { seq: 2, type: 'started', at, data: { epoch: 1, isResumed: false } },
  ]
  return { run, epoch: 1, entries, worked: 0, isFirst }
}

function codeOf(error: unknown): unknown {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown }
  return (cause as { code?: unknown } | undefined)?.code ?? code
}

function tooManyQueued(max: number): GatewayError {
  return new GatewayError('rate_limit_exceeded', `${max} of your runs wait already (runs.maxQueued): wait for some, or cancel them.`, { retryAfter: 10 })
}

function refuseBadImage(url: string): void {
  const isGood = url.startsWith('data:') ? /^data:image\/[\w.+-]+;base64,[A-Za-z0-9+/]*={0,2}$/.test(url) : /^https?:/.test(url) && URL.canParse(url)
  if (isGood) return
  throw new GatewayError('validation_failed', 'images: expected URLs of http or https, or data: URLs of an image in base64.', { param: 'images' })
}

/** Who is asked, and for what besides: a model `agent/<id>` names an agent, and none of its own. */
function agentOf({ agent, override = {} }: RunSubmission, session: SessionRow | undefined): { agent: string; override: Partial<RunSpec> } {
  const given = defined(override)
  const { model, ...others } = given
  if (!model?.startsWith(`${agentProvider}/`)) return { agent: agent ?? session?.agent ?? 'default', override: given }
  const named = model.slice(agentProvider.length + 1)
  if (agent !== undefined && agent !== named)
    throw new GatewayError(
      'validation_failed',
      `The model "${model.slice(0, 200)}" names another agent than "${agent.slice(0, 100)}": leave one of them out.`,
      {
        param: 'model',
      },
    )
  return { agent: named, override: others }
}

function defined<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T
}

/** The key of the run was taken while it was written. */
class Taken extends Error {}

/** Appends a message to a run that is not over; its holder hears it before its next model call. */
export async function steer(tx: Transaction, { id }: Run, text: string, at: Date): Promise<boolean> {
  const [row] = await tx
    .update(runs)
    .set({ lastSeq: sql`${runs.lastSeq} + 1` })
    .where(and(eq(runs.id, id), inArray(runs.state, [...activeStates])))
    .returning({ lastSeq: runs.lastSeq })
  if (!row) return false
  const key = `message:${randomBytes(9).toString('hex')}`
  await tx.insert(entries).values({ runId: id, seq: row.lastSeq, key, type: 'message', data: { text: storable(text) }, at })
  return true
}
