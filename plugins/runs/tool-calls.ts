/** The tool calls of a model's answer: each is begun and ended in the run's record, asked for where it is gated, and never made twice by itself when it may have had its effect. */
import { isDeepStrictEqual } from 'node:util'
import { GatewayError, type Logger } from 'portico'
import type { Approval, ApprovalKind, ApprovalRequest, Approvals } from 'portico/plugins/approvals'
import { storableJson } from 'portico/plugins/database'
import { isToolSuspended, type ListedTool, type ToolContext, type ToolRegistry, type ToolResult, ToolSuspended } from 'portico/plugins/tools'
import type { Workspace } from 'portico/plugins/workspace'
import { type RunState, type Runs, runProgress } from './contract.ts'
import type { Hub, Topic } from './hub.ts'
import type { AskedCall, ModelCalls } from './model-call.ts'
import { Rejected, Stopping } from './reasons.ts'
import type { Fact, HeldRun, PublishRunEvent, Records } from './record.ts'

/** Tool calls of one answer that are made; the rest are refused. */
const maxCalls = 32
/** At once. */
const maxAtOnce = 8

/** Why a run has to wait: for a decision, or for a run that waits for one. */
export interface Gate {
  /** The tool call, whose own work has not begun or has ended in waiting. */
  readonly call: string
  readonly request?: Omit<ApprovalRequest, 'runId' | 'owner'>
  readonly waitsFor?: string
}

/** What it works with. */
export interface ToolCallsOptions {
  readonly registry: ToolRegistry
  readonly approvals: Approvals
  readonly workspace: Workspace
  readonly records: Records
  readonly modelCalls: ModelCalls
  readonly hub: Hub
  readonly watch: Runs['watch']
  stateOf(runId: string): Promise<RunState | undefined>
  readonly log: Logger
  readonly publish: PublishRunEvent
}

/** What a call is made within. */
export interface Work {
  readonly held: HeldRun
  readonly topic: Topic
  readonly signal: AbortSignal
  /** Tokens that tools used for questions of their own. */
  spend(inputTokens: number, outputTokens: number): void
}

/** Tools that a run may call. */
export function offeredTools(registry: ToolRegistry, names: readonly string[]): ListedTool[] {
  if (names.length === 0) return []
  const isOffered = names.includes('*') ? () => true : ({ name }: ListedTool) => names.includes(name)
  return registry.list().filter((tool) => tool.risk !== 'forbidden' && isOffered(tool))
}

function endedCalls({ entries }: HeldRun): ReadonlySet<unknown> {
  return new Set(entries.filter(({ type }) => type === 'tool_result').map(({ data }) => data.call))
}

/** Calls of the latest answers that have no result yet. */
export function openCalls(held: HeldRun): AskedCall[] {
  const done = endedCalls(held)
  return held.entries.flatMap(({ type, data }) => (type === 'model_call' ? (data.calls as AskedCall[]).filter(({ call }) => !done.has(call)) : []))
}

/** A tool is at work that is not to be called twice. */
export function isAtTool(registry: ToolRegistry, held: HeldRun): boolean {
  const done = endedCalls(held)
  const names = new Set(held.entries.filter(({ type, data }) => type === 'tool_call' && !done.has(data.call)).map(({ data }) => data.tool))
  const listed = new Map(registry.list().map(({ name, idempotent }) => [name, idempotent]))
  // One whose plugin has ended already is at work all the same.
  return [...names].some((name) => listed.get(String(name)) !== true)
}

/** Makes what calls tools. */
export function createToolCalls({ registry, approvals, workspace, records, modelCalls, hub, watch, stateOf, log, publish }: ToolCallsOptions) {
  return {
    /** Makes the calls that may be made; gives what the others wait for. */
    async perform(calls: readonly AskedCall[], work: Work): Promise<Gate[]> {
      const decided = once(() => approvals.ofRun(work.held.run.id))
      const gates: Gate[] = []
      const queue = [...calls.entries()]
      const worker = async () => {
        for (let next = queue.shift(); next; next = queue.shift()) {
          if (work.held.isStopping) throw new Stopping()
          const gate = await perform(next[1], next[0] >= maxCalls, work, decided)
          if (gate) gates.push(gate)
        }
      }
      const workers = Array.from({ length: Math.min(maxAtOnce, calls.length) }, worker)
      const settled = await Promise.allSettled(workers)
      const failed = settled.find((each) => each.status === 'rejected')
      if (failed) throw failed.reason
      return gates
    },
  }

  async function perform(asked: AskedCall, isTooMany: boolean, work: Work, decided: () => Promise<Approval[]>): Promise<Gate | undefined> {
    const { held } = work
    const { call, input } = asked
    const tool = registry.find(asked.name)
    const begun = held.entries.filter(({ type, data }) => type === 'tool_call' && data.call === call)
    const refusal = isTooMany ? `At most ${maxCalls} calls in one answer: ask for the rest in the next.` : refusalOf(asked, tool, held)
    if (refusal || !tool) return end(asked, held, refused(refusal ?? 'There is no such tool.'))

    const decision = async (kind: ApprovalKind, args: unknown, question: string): Promise<'go' | Gate | ToolResult> => {
      const gate = { call, request: { kind, callId: call, title: tool.name, arguments: args, question } }
      const approval = findApproval(await decided(), kind, call, args)
      if (!approval || approval.state === 'pending') return gate
      if (approval.state === 'approved') return 'go'
      if (approval.state === 'expired') throw expired(approval)
      return refused(`${approval.decidedBy ?? 'Nobody'} did not allow it${approval.comment ? `: ${approval.comment}` : '.'}`)
    }
    if (tool.risk === 'gated') {
      const allowed = await decision('tool', input, `May ${tool.name} be called with these arguments?`)
      if (allowed !== 'go') return 'call' in allowed ? allowed : end(asked, held, allowed)
    }
    const last = begun.at(-1)
    if (last && !tool.idempotent && !isSuspended(held, call, last.seq)) {
      const question = `${tool.name} was begun and its result is not known: it may have been done already. May it be called again?`
      const allowed = await decision('repeat', { input, attempt: begun.length }, question)
      if (allowed !== 'go') return 'call' in allowed ? allowed : end(asked, held, allowed)
    }
    await write(held, { key: `tool_call:${call}:${begun.length + 1}`, type: 'tool_call', data: { ...factOf(asked, tool), input, attempt: begun.length + 1 } })
    const asking = asker(tool, call, decided)
    try {
      const result = await registry.call(asked.name, input, contextOf(asked, tool, asking, work))
      await end(asked, held, result, tool)
      return undefined
    } catch (error) {
      if (isToolSuspended(error) && asking.gate) return asking.gate
      throw error
    }
  }

  function end(asked: AskedCall, held: HeldRun, { isError, parts, structured, code }: ToolResult, tool?: ListedTool): Promise<undefined> {
    const data = { ...factOf(asked, tool), isError, parts, ...(structured === undefined ? {} : { structured }), ...(code === undefined ? {} : { code }) }
    return write(held, { key: `tool_result:${asked.call}`, type: 'tool_result', data }, true)
  }

  async function write(held: HeldRun, fact: Fact, isStep = false): Promise<undefined> {
    await records.write(held, [fact], isStep ? { change: { steps: 1 } } : {})
    hub.poke(held.run.id)
  }

  /** Questions of a call, in their order: one that is answered gives its answer when the call is made again, the first that is not ends the call. */
  function asker(
    tool: ListedTool,
    call: string,
    decided: () => Promise<Approval[]>,
  ): { gate?: Gate; ask(question: string, choices: readonly string[]): Promise<string> } {
    let count = 0
    return {
      async ask(question, choices) {
        const callId = `${call}#${++count}`
        const args = { question, choices }
        const approval = findApproval(await decided(), 'question', callId, args)
        if (approval?.state === 'approved') return approval.answer ?? ''
        if (approval?.state === 'expired') throw expired(approval)
        if (approval?.state === 'denied') throw new GatewayError('forbidden', `The person did not answer${approval.comment ? `: ${approval.comment}` : '.'}`)
        this.gate = { call, request: { kind: 'question', callId, title: tool.name, arguments: args, question, choices } }
        throw new ToolSuspended(question, choices)
      },
    }
  }

  function contextOf(asked: AskedCall, tool: ListedTool, asking: ReturnType<typeof asker>, { held, topic, signal, spend }: Work): ToolContext {
    const { run } = held
    const properties = { runId: run.id, tool: tool.name, callId: asked.call }
    const at =
      (level: keyof Logger) =>
      (message: string, more: Record<string, unknown> = {}) =>
        log[level](message, { ...more, ...properties })
    return {
      ...{ principal: run.principal, runId: run.id, callId: asked.call, signal, workspace: workspace.open(run.id) },
      log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
      progress(message, fraction) {
        const said = hub.progress(topic, asked.call, message.slice(0, 1_000), fraction)
        const { n: _, ...data } = said
        publish(runProgress, { runId: run.id, sessionKey: run.sessionKey, agent: run.spec.agent, ...data }, { principal: run.principal.id, subject: run.id })
      },
      ask: (question, { choices = [] } = {}) => asking.ask(question, choices),
      async waitFor(id) {
        for await (const update of watch(id, run.principal, { signal })) {
          const hasWaited = update.type === 'entry' && update.entry.type === 'awaiting_approval'
          if (!hasWaited || (await stateOf(id)) !== 'awaiting_approval') continue
          asking.gate = { call: asked.call, waitsFor: id }
          throw new ToolSuspended(`It waits for ${id}`)
        }
        signal.throwIfAborted()
      },
      async sample({ prompt, system = '', model = run.spec.model, maxOutputTokens }) {
        const spec = { model, fallbacks: [], maxOutputTokens }
        const answer = await modelCalls.ask({
          ...{ run, spec, instructions: system, messages: [{ role: 'user', content: prompt }], tools: [], signal, onText: () => undefined },
        })
        spend(answer.inputTokens, answer.outputTokens)
        return answer.text
      },
    }
  }
}

function factOf({ call, callId, name }: AskedCall, tool: ListedTool | undefined) {
  return { call, callId, tool: tool?.name ?? name }
}

function refusalOf({ invalid }: AskedCall, tool: ListedTool | undefined, { run }: HeldRun): string | undefined {
  const { tools } = run.spec
  // A tool that there is not, or that may not be called, is refused by the registry, in its words.
  if (tool && !tools.includes('*') && !tools.includes(tool.name)) return `${tool.name} is none of your tools.`
  return invalid === undefined ? undefined : `The arguments cannot be read: ${invalid}`
}

function refused(message: string): ToolResult {
  return { isError: true, code: 'forbidden', parts: [{ type: 'text', text: `forbidden: ${message}` }] }
}

/** What was decided, or is asked, last about exactly this; `callId` null = about no call. */
export function findApproval(approvals: readonly Approval[], kind: ApprovalKind, callId: string | null, args: unknown): Approval | undefined {
  const exact = storableJson(args)
  return approvals.findLast((each) => each.kind === kind && each.callId === callId && each.state !== 'withdrawn' && isDeepStrictEqual(each.arguments, exact))
}

/** The last attempt ended in waiting, and not in the middle. */
function isSuspended({ entries }: HeldRun, call: string, since: number): boolean {
  return entries.some(({ type, seq, data }) => type === 'awaiting_approval' && seq > since && (data.suspended as string[]).includes(call))
}

/** A deadline that nobody kept ends the run. */
export function expired({ title }: Approval): Rejected {
  return new Rejected(`Nobody decided about ${title} in time.`)
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}
