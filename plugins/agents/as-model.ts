/** Agents as models: `agent/<id>` of `/v1/chat/completions` is a run of that agent. A caller of that API keeps the conversation itself, so each call is a session of its own. */
import type { LanguageModelV4CallOptions as CallOptions, LanguageModelV4 as LanguageModel, LanguageModelV4StreamPart as StreamPart } from '@ai-sdk/provider'
import { GatewayError } from 'portico'
import { type ModelProvider, overLanguageModel, type WireRequest } from 'portico/plugins/models'
import { agentProvider, type Run, type RunInput, type Runs, wholeRun } from 'portico/plugins/runs'
import { builtIn } from './agents.ts'
import type { Agents } from './contract.ts'

/** What it works with. */
export interface AsModelOptions {
  readonly agents: Agents
  readonly runs: Runs
  /** ms after which a stream that says nothing gives a sign of life; default 15,000: a tool, or a person, takes its time. */
  readonly silence?: number
}

/** ms: such a session is forgotten after a day, where the agent says nothing else. */
const sessionTtl = 86_400_000
/** ms: an agent may wait for a person as long as an approval may. */
const timeoutMs = 7 * 86_400_000

/** The provider `agent`. Its list has what somebody has made; `default` answers to its name as well. */
export function createAgentProvider(options: AsModelOptions): ModelProvider {
  return {
    ...{ id: agentProvider, timeoutMs },
    models: async () =>
      (await options.agents.list()).filter((agent) => agent !== builtIn).map(({ id, description }) => ({ id, description, ownedBy: 'portico' })),
    ...overLanguageModel(agentProvider, async (agent, request) => toModel(agent, request, options)),
  }
}

async function toModel(id: string, request: WireRequest | undefined, { agents, runs, silence = 15_000 }: AsModelOptions): Promise<LanguageModel> {
  const principal = request?.principal
  if (!principal)
    throw new GatewayError('not_implemented', 'An agent is no model of another agent: name it in the other’s subAgents, which gives it the tool call_agent.')
  const agent = await agents.find(id)
  if (!agent)
    throw new GatewayError('model_not_found', `There is no agent ${JSON.stringify(id.slice(0, 100))} here. GET /api/agents lists them.`, { param: 'model' })

  const submit = (options: CallOptions, signal: AbortSignal) =>
    runs.submit({
      ...{ principal, agent: id, channel: 'openai', input: toInput(options) },
      override: { temperature: options.temperature, maxOutputTokens: options.maxOutputTokens, sessionTtl: agent.sessionTtl ?? sessionTtl },
      interactive: { signal },
    })

  async function* answer(run: Run, signal: AbortSignal): AsyncGenerator<string, Run> {
    for await (const update of runs.watch(run.id, run.principal, { signal })) {
      // What a crash made void has gone out already.
      if (update.type === 'delta') yield update.text
      if (update.type === 'end') return wholeRun(update.run)
    }
    throw signal.reason
  }

  return {
    ...{ specificationVersion: 'v4', provider: agentProvider, modelId: `${agentProvider}/${id}`, supportedUrls: { 'image/*': [/^https?:/] } },
    async doGenerate(options) {
      const signal = options.abortSignal ?? new AbortController().signal
      const pieces = answer(await submit(options, signal), signal)
      for (let piece = await pieces.next(); ; piece = await pieces.next())
        if (piece.done) return { content: [{ type: 'text', text: piece.value.result ?? '' }], ...endOf(piece.value), warnings: [] }
    },
    async doStream(options) {
      const leaving = new AbortController()
      const signal = AbortSignal.any([leaving.signal, ...(options.abortSignal ? [options.abortSignal] : [])])
      // What is refused is an answer with a status; from here on there is a run, which may work long before its first word.
      const pieces = answer(await submit(options, signal), signal)
      let next: ReturnType<typeof pieces.next> | undefined
      const stream = new ReadableStream<StreamPart>(
        {
          async pull(controller) {
            next ??= pieces.next()
            // Whoever leaves does not wait for it.
            next.catch(() => undefined)
            const said = await within(silence, next)
            if (!said) return controller.enqueue({ type: 'raw', rawValue: undefined })
            next = undefined
            if (!said.done) return controller.enqueue({ type: 'text-delta', id: '0', delta: said.value })
            controller.enqueue({ type: 'finish', ...endOf(said.value) })
            controller.close()
          },
          cancel: (reason) => leaving.abort(reason),
        },
        { highWaterMark: 0 },
      )
      return { stream }
    },
  }
}

/** What it resolves to, or undefined after `ms`. */
function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(undefined), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** The last message is what is said now, what stands before it is the conversation so far. Calls of tools in it were another model's. */
function toInput({ prompt, tools, responseFormat }: CallOptions): RunInput {
  if (tools?.length) throw wrong('tools', 'an agent calls its own tools; leave them out.')
  if (responseFormat?.type === 'json') throw wrong('response_format', 'an agent answers in text.')
  const last = prompt.at(-1)
  if (last?.role !== 'user') throw wrong('messages', 'the last one is to be the user’s.')
  const textOf = (parts: readonly { type: string; text?: string }[]) => parts.map(({ type, text = '' }) => (type === 'text' ? text : '')).join('')
  const history = prompt.slice(0, -1).flatMap((message) => {
    if (message.role !== 'user' && message.role !== 'assistant') return []
    const text = textOf(message.content)
    return text === '' ? [] : [{ role: message.role, text }]
  })
  const images = last.content.flatMap((part) => {
    if (part.type !== 'file') return []
    if (part.data.type === 'url') return [part.data.url.href]
    return part.data.type === 'data' ? [`data:${part.mediaType};base64,${part.data.data}`] : []
  })
  const context = prompt.flatMap((message) => (message.role === 'system' ? [message.content] : []))
  return { text: textOf(last.content), images, context, history }
}

function wrong(param: string, why: string): GatewayError {
  return new GatewayError('validation_failed', `${param}: ${why}`, { param })
}

type Ended = Pick<Extract<StreamPart, { type: 'finish' }>, 'finishReason' | 'usage'>

function endOf({ finishReason, usage: { inputTokens, outputTokens } }: Run): Ended {
  const raw = finishReason ?? 'stop'
  const none = undefined
  return {
    finishReason: { unified: raw === 'length' || raw === 'content-filter' ? raw : 'stop', raw },
    usage: {
      inputTokens: { total: inputTokens, noCache: none, cacheRead: none, cacheWrite: none },
      outputTokens: { total: outputTokens, text: none, reasoning: none },
    },
  }
}
