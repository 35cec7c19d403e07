/** The turn loop: model call, tool calls, model call … until the model is done. It knows only the run's record, so it begins anywhere: after a crash, after a decision. */
import { eq, inArray } from 'drizzle-orm'
import type { Models } from 'portico/plugins/models'
import type { Artifact } from 'portico/plugins/workspace'
import { messageStreaming, type Run, type RunEntry } from './contract.ts'
import { toInstructions, toMessages } from './conversation.ts'
import type { Ending, Endings } from './ending.ts'
import type { Topic } from './hub.ts'
import { Rejected, RunFailure, Stopping } from './reasons.ts'
import type { Fact, HeldRun, RunChange } from './record.ts'
import { isOver, runs } from './schema.ts'
import type { Sessions } from './sessions.ts'
import { createToolCalls, expired, findApproval, type Gate, offeredTools, openCalls, type ToolCallsOptions, type Work } from './tool-calls.ts'

/** Times that a run is begun anew without getting any further. */
const maxStarts = 5

type LastAnswer = { readonly text: string; readonly finishReason: string; readonly model: string }

/** What it works with. */
export interface TurnsOptions extends ToolCallsOptions {
  readonly endings: Endings
  readonly sessions: Sessions
  readonly models: Models
}

/** Makes the loop. */
export function createTurns(options: TurnsOptions) {
  const { records, endings, sessions, approvals, workspace, registry, models, modelCalls, hub, publish } = options
  const toolCalls = createToolCalls(options)

  /**
   * Works until the run has ended or waits for somebody; both are written when this returns. What it throws the caller ends the run with.
   * @throws LeaseLost, Rejected, RunFailure, GatewayError, and the signal's reason
   */
  return async function work(held: HeldRun, topic: Topic, signal: AbortSignal, worked: () => number): Promise<void> {
    const { run } = held
    refusePoison(held)
    const before = held.isFirst ? [] : await records.durably(() => sessions.before(run.sessionId, run.id))
    const spent = { inputTokens: 0, outputTokens: 0 }
    const spend = (inputTokens: number, outputTokens: number) => {
      spent.inputTokens += inputTokens
      spent.outputTokens += outputTokens
    }
    const within: Work = { held, topic, signal, spend }
    for (;;) {
      signal.throwIfAborted()
      if (held.isStopping) throw new Stopping()
      const calls = openCalls(held)
      if (calls.length > 0) {
        const gates = await toolCalls.perform(calls, within)
        if (gates.length > 0) return wait(held, gates, { ...bill(held, spent), ...worktime() })
        continue
      }
      if (hasAnswered(held)) {
        const gate = await applyArtifacts(held)
        if (gate) return wait(held, [gate], { ...bill(held, spent), ...worktime() })
        const last = held.entries.findLast(({ type }) => type === 'model_call')?.data as unknown as LastAnswer
        if (await complete(held, last, { ...bill(held, spent), ...worktime() })) return
        continue
      }
      if (await callModel(within)) return
    }

    function worktime() {
      return { worked: worked() }
    }

    /** True = it was the last word, and the run has ended. */
    async function callModel({ held, topic, signal }: Work): Promise<boolean> {
      const { spec, input } = held.run
      const step = held.entries.filter(({ type }) => type === 'model_call').length + 1
      if (step > spec.maxSteps)
        throw new RunFailure(
          'max_steps',
          `The model did not come to an end within ${spec.maxSteps} calls. Ask for less at once, or raise the agent's maxSteps.`,
        )
      const tools = offeredTools(registry, spec.tools)
      topic.text.clear()
      const heard = held.entries.length
      const answer = await modelCalls.ask({
        ...{ run: held.run, spec, tools, signal, instructions: toInstructions(spec, input, tools), messages: toMessages(before, input, held.entries) },
        onText(delta) {
          topic.text.append(delta)
          hub.poke(run.id)
          publish(messageStreaming, { sessionKey: run.sessionKey, runId: run.id, delta }, { principal: run.principal.id, subject: run.sessionKey })
        },
      })
      const { text, model, finishReason, inputTokens, outputTokens, message } = answer
      const calls = answer.calls.map((call, index) => ({ ...call, call: `${step}.${index}` }))
      const data = { step, heard, epoch: held.epoch, model, text, finishReason, inputTokens, outputTokens, calls, message }
      spend(inputTokens, outputTokens)
      const fact = { key: `model_call:${step}`, type: 'model_call' as const, data }
      const change = { ...bill(held, spent), model, steps: 1 }
      // Nothing stands between the last word and the end: they are written together.
      const isLast = calls.length === 0 && !mayHaveStaged(held)
      if (isLast && (await complete(held, data, { ...change, ...worktime() }, [fact]))) return true
      await records.write(held, [fact], { change })
      topic.text.clear()
      hub.poke(run.id)
      return false
    }
  }

  /** The staged files, once somebody has allowed them: all or none. Gives what has to be waited for. */
  async function applyArtifacts(held: HeldRun): Promise<Gate | undefined> {
    const { id } = held.run
    if (!mayHaveStaged(held)) return undefined
    const staged = (await records.durably(() => workspace.artifacts(id))).filter(({ state }) => state === 'staged')
    if (staged.length === 0) return undefined
    const files = staged.map(({ path, change, before, after }) => ({ path, change, before, after }))
    const known = findApproval(await records.durably(() => approvals.ofRun(id)), 'artifacts', null, files)
    if (!known || known.state === 'pending') return { call: 'artifacts', request: { kind: 'artifacts', title: titleOf(staged), arguments: files } }
    if (known.state === 'expired') throw expired(known)
    if (known.state === 'denied') throw new Rejected(`${known.decidedBy ?? 'Nobody'} did not want the files${known.comment ? `: ${known.comment}` : '.'}`)
    // Whoever lost the run meanwhile may not touch the files.
    await records.write(held, [])
    await records.durably(() => workspace.apply(id))
    return undefined
  }

  async function complete(held: HeldRun, { text, finishReason, model }: LastAnswer, change: RunChange, facts: readonly Fact[] = []): Promise<boolean> {
    const cost = await costOf(held.run, [...held.entries, ...facts])
    return endings.finish(held, { state: 'completed', text, finishReason, model }, { ...change, cost }, facts)
  }

  /** Writes down what is waited for, and lets go of the run: whoever decides may take longer than anybody holds a line. What was decided meanwhile wakes it at once. */
  async function wait(held: HeldRun, gates: readonly Gate[], change: RunChange): Promise<void> {
    const { run } = held
    const count = held.entries.filter(({ type }) => type === 'awaiting_approval').length + 1
    const requests = gates.flatMap(({ request }) => request ?? [])
    const others = gates.flatMap(({ waitsFor }) => waitsFor ?? [])
    // Their attempts have ended, in a question or in waiting: to make them again repeats nothing.
    const suspended = gates.filter(({ request, waitsFor }) => waitsFor !== undefined || request?.kind === 'question').map(({ call }) => call)
    const data = { approvalIds: [] as string[], kinds: [] as string[], suspended, waitsFor: others }
    await records.write(held, [{ key: `awaiting_approval:${count}`, type: 'awaiting_approval', data }], {
      change: { ...change, state: 'awaiting_approval' },
      async before(tx) {
        const open = []
        for (const request of requests) open.push(await approvals.request(tx, { ...request, runId: run.id, owner: run.principal.id }))
        for (const id of others) open.push(...(await approvals.ofRun(id, tx)).filter(({ state }) => state === 'pending'))
        data.approvalIds = open.map(({ id }) => id)
        data.kinds = [...new Set(open.map(({ kind }) => kind))]
      },
      async after(tx) {
        const isPending = (await approvals.ofRun(run.id, tx)).some(({ state }) => state === 'pending')
        const areOver =
          others.length > 0 && (await tx.select({ state: runs.state }).from(runs).where(inArray(runs.id, others))).every(({ state }) => isOver(state))
        if (!isPending && (others.length === 0 || areOver)) await tx.update(runs).set({ state: 'queued' }).where(eq(runs.id, run.id))
      },
    })
  }

  async function costOf(run: Run, entries: readonly Pick<RunEntry, 'type' | 'data'>[]): Promise<number | null> {
    let sum = 0
    for (const { type, data } of entries) {
      if (type !== 'model_call') continue
      const target = await models.resolve(String(data.model))
      if (target.provider === 'demo') return null
      const { inputTokens, outputTokens } = data as { inputTokens: number; outputTokens: number }
      const cost = await models.prices.cost(target, { inputTokens, outputTokens }).catch(() => null)
      if (cost === null) return null
      sum += cost
    }
    return sum || run.usage.cost
  }
}

/** Only tools stage files. */
function mayHaveStaged({ entries }: HeldRun): boolean {
  return entries.some(({ type }) => type === 'tool_call')
}

/** What tokens that are not written yet make of the run's; they are taken as written. */
function bill(held: HeldRun, spent: { inputTokens: number; outputTokens: number }): RunChange {
  const { inputTokens, outputTokens } = spent
  Object.assign(spent, { inputTokens: 0, outputTokens: 0 })
  const { usage } = held.run
  held.run = { ...held.run, usage: { ...usage, inputTokens: usage.inputTokens + inputTokens, outputTokens: usage.outputTokens + outputTokens } }
  return { inputTokens: held.run.usage.inputTokens, outputTokens: held.run.usage.outputTokens }
}

/** The model's last word calls no tool, and nobody has said anything since. */
function hasAnswered({ entries }: HeldRun): boolean {
  const last = entries.findLast(({ type }) => type === 'model_call' || type === 'tool_result')
  return last?.type === 'model_call' && !entries.some(({ type, seq }) => type === 'message' && seq > (last.data.heard as number))
}

/** A run at which the process dies again and again is given up. */
function refusePoison({ entries }: HeldRun): void {
  const further = entries.findLastIndex(({ type }) => type !== 'started')
  if (entries.length - 1 - further > maxStarts)
    throw new RunFailure('interrupted', `The gateway ended ${maxStarts} times at this point of the run; it is given up.`)
}

function titleOf(artifacts: readonly Artifact[]): string {
  return artifacts.length === 1 ? (artifacts[0] as Artifact).path : `${artifacts.length} files`
}

/** How a run that stopped before its end ends. */
export function endingOf(reason: unknown, text: string): Ending | undefined {
  if (reason instanceof Rejected) return { state: 'rejected', reason: reason.message, text }
  if (reason instanceof RunFailure) return { state: 'failed', error: reason.error, text }
  return undefined
}
