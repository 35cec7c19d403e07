/** One call of a model, by the AI SDK: the text as it comes, then the whole answer. The loop round it, which must outlive the process, is in `turn.ts`. */
import { setTimeout } from 'node:timers/promises'
import type { ModelMessage, ToolSet } from 'ai'
import { GatewayError, isGatewayError } from 'portico'
import type { Models, ModelTarget } from 'portico/plugins/models'
import type { ListedTool } from 'portico/plugins/tools'
import type { BudgetKeeper, BudgetRequest, Run, RunSpec } from './contract.ts'
import { createLanguageModels } from './language-model.ts'

/** ms in which pieces that are there already are taken one after the other: then everybody else has his turn, however fast a model speaks. */
const longestTurn = 5
/** ms that a model which is gone is waited for, and between two looks. */
const [patience, lookAgain] = [2_000, 100]
/** The longest answer, in characters. What comes after is cut off, and the upstream left. */
const longestAnswer = 2_000_000

/** A tool call as the model wants it. */
export interface AskedCall {
  /** Its place among the calls of the run: the name by which the gateway knows it. */
  readonly call: string
  /** As the model calls it. */
  readonly callId: string
  /** The tool's wire name. */
  readonly name: string
  readonly input: unknown
  /** Why its arguments cannot be read. */
  readonly invalid?: string
}

/** What a model answered. */
export interface ModelAnswer {
  readonly target: ModelTarget
  /** As it was asked for. */
  readonly model: string
  readonly text: string
  readonly calls: readonly Omit<AskedCall, 'call'>[]
  /** The assistant's message, for the next call. */
  readonly message: ModelMessage | undefined
  readonly finishReason: string
  readonly inputTokens: number
  readonly outputTokens: number
}

/** A question. */
export interface ModelQuestion {
  readonly run: Run
  readonly spec: Pick<RunSpec, 'model' | 'fallbacks' | 'temperature' | 'maxOutputTokens'>
  readonly instructions: string
  readonly messages: readonly ModelMessage[]
  readonly tools: readonly ListedTool[]
  readonly signal: AbortSignal
  onText(delta: string): void
}

/** What it works with. */
export interface ModelCallOptions {
  readonly models: Models
  budgets(): readonly BudgetKeeper[]
}

/** Makes what calls models. */
export type ModelCalls = ReturnType<typeof createModelCalls>

/** Makes it. */
export function createModelCalls({ models, budgets }: ModelCallOptions) {
  const toLanguageModel = createLanguageModels(models)
  return {
    /** Asks the model, and the fallbacks in turn as long as nothing has come. @throws GatewayError what the last of them failed with */
    async ask(question: ModelQuestion): Promise<ModelAnswer> {
      const names = [question.spec.model, ...question.spec.fallbacks]
      for (const [index, name] of names.entries()) {
        let hasBegun = false
        const onText = (delta: string) => {
          hasBegun = true
          question.onText(delta)
        }
        try {
          return await askOne(name, { ...question, onText })
        } catch (error) {
          const isLast = index === names.length - 1
          if (isLast || hasBegun || question.signal.aborted || !isWorthAnother(error)) throw error
        }
      }
      throw new GatewayError('model_not_found', 'The run names no model.')
    },
  }

  async function askOne(name: string, question: ModelQuestion): Promise<ModelAnswer> {
    const { signal, spec } = question
    const target = await find(name, name === spec.model ? patience : 0, signal)
    const reserved: Awaited<ReturnType<BudgetKeeper['reserve']>>[] = []
    try {
      const keepers = budgets()
      // Measured only for whoever asks: it reads all that is sent.
      if (keepers.length > 0) {
        const request = toRequest(name, question)
        for (const keeper of keepers) reserved.push(await keeper.reserve(request, signal))
      }
      const answer = await stream(name, target, question)
      const { inputTokens, outputTokens } = answer
      const cost = reserved.length > 0 ? await models.prices.cost(target, { inputTokens, outputTokens }) : null
      for (const each of reserved.splice(0)) await each.settle({ inputTokens, outputTokens, cost })
      return answer
    } finally {
      for (const each of reserved) await each.release().catch(() => undefined)
    }
  }

  /** The model was there when the run was taken in: its plugin may only be changing, or the gateway be about to let go of the run. */
  async function find(name: string, ms: number, signal: AbortSignal): Promise<ModelTarget> {
    for (let left = ms; ; left -= lookAgain) {
      try {
        return await models.resolve(name)
      } catch (error) {
        if (left <= 0 || !isGatewayError(error) || error.code !== 'model_not_found') throw error
        await setTimeout(lookAgain, undefined, { signal })
      }
    }
  }

  async function stream(name: string, target: ModelTarget, question: ModelQuestion): Promise<ModelAnswer> {
    const { spec, instructions, messages, tools, signal, onText } = question
    const [{ streamText, jsonSchema, tool }, model] = await Promise.all([import('ai'), toLanguageModel(target)])
    const offered: ToolSet = {}
    // Without `execute`: the SDK reads the calls, what is done about them is the turn's.
    for (const { wireName, description, input } of tools) offered[wireName] = tool({ description, inputSchema: jsonSchema(input as never) })
    const leaving = new AbortController()
    const leave = () => leaving.abort(signal.reason)
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
    const found = { text: '', finishReason: 'stop', inputTokens: 0, outputTokens: 0 }
    const calls: Omit<AskedCall, 'call'>[] = []
    try {
      const result = streamText({
        ...{ model: model as never, messages: [...messages], tools: offered, maxRetries: 0, abortSignal: leaving.signal, temperature: spec.temperature },
        ...{ instructions: instructions === '' ? undefined : instructions, maxOutputTokens: spec.maxOutputTokens },
        // Image URLs go to the provider as they are: what a person writes makes the gateway fetch nothing.
        experimental_download: async (files) => files.map(() => null),
        onError: () => undefined,
        include: { requestBody: false },
      })
      let isWhole = false
      let taken = performance.now()
      let turnBegan = taken
      for await (const part of result.fullStream) {
        const now = performance.now()
        // It was waited for: everybody has had his turn.
        if (now - taken > 1) turnBegan = now
        switch (part.type) {
          case 'text-delta':
            found.text += part.text
            onText(part.text)
            break
          case 'tool-call':
            calls.push({
              ...{ callId: part.toolCallId, name: part.toolName, input: part.input },
              ...(part.invalid ? { invalid: wordsOf(part.error) } : {}),
            })
            break
          case 'error':
            throw part.error
          case 'abort':
            throw signal.reason ?? new Error('The call was aborted')
          case 'finish-step':
            // The SDK gives a reason also to an answer that broke off; the provider's own is missing then.
            isWhole = part.rawFinishReason !== undefined
            found.finishReason = part.rawFinishReason ?? part.finishReason
            found.inputTokens = part.usage.inputTokens ?? 0
            found.outputTokens = part.usage.outputTokens ?? 0
            break
        }
        taken = performance.now()
        if (taken - turnBegan > longestTurn) {
          await new Promise((resolve) => setImmediate(resolve))
          turnBegan = taken = performance.now()
        }
        if (found.text.length > longestAnswer) return { ...found, target, model: name, calls: [], message: said(found.text), finishReason: 'length' }
      }
      signal.throwIfAborted()
      if (!isWhole) throw broken(target.provider, 'ended before its answer did')
      const { messages: made } = await result.response
      return { ...found, target, model: name, calls, message: made.find(({ role }) => role === 'assistant') }
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw isGatewayError(error) ? error : toGatewayError(target.provider, error)
    } finally {
      signal.removeEventListener('abort', leave)
      // After its end this does nothing; on every other way out it frees the upstream.
      leaving.abort()
    }
  }
}

function toRequest(model: string, { run, spec, instructions, messages }: ModelQuestion): BudgetRequest {
  const characters = messages.map(({ content }) => (typeof content === 'string' ? content : JSON.stringify(content)).length)
  const inputCharacters = characters.reduce((sum, each) => sum + each, instructions.length)
  return { runId: run.id, principal: run.principal, model, inputCharacters, maxOutputTokens: spec.maxOutputTokens }
}

function said(text: string): ModelMessage {
  return { role: 'assistant', content: text }
}

function broken(provider: string, why: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_error', `The provider "${provider}" ${why}; the answer is not whole. Try again.`, { cause })
}

/** What the provider's error says. What the upstream wrote is not passed on: nobody knows what is in it. */
function toGatewayError(provider: string, error: unknown): GatewayError {
  const { statusCode: status, responseHeaders = {} } = (error ?? {}) as { statusCode?: number; responseHeaders?: Record<string, string> }
  const gateway = causes(error).find(isGatewayError)
  if (gateway) return gateway as GatewayError
  if (status === undefined || status < 400) return broken(provider, 'broke off', error)
  if (status === 429) {
    const wait = Number(responseHeaders['retry-after'])
    const retryAfter = Number.isFinite(wait) && wait > 0 ? wait : 5
    return new GatewayError('rate_limit_exceeded', `The provider "${provider}" has too many requests: try again in ${retryAfter} s.`, { retryAfter })
  }
  if (status === 404) return new GatewayError('model_not_found', `The provider "${provider}" does not have this model: choose another.`, { param: 'model' })
  const next = status < 500 ? 'Is the message too long, or does the model not take images or tools?' : 'Try again, or choose another model.'
  return new GatewayError('upstream_error', `The provider "${provider}" answered ${status}. ${next}`, { cause: error })
}

function causes(error: unknown): unknown[] {
  const found: unknown[] = []
  for (let at = error; at instanceof Error && found.length < 8; at = at.cause) found.push(at)
  return found
}

/** Another model may do what this one did not. */
function isWorthAnother(error: unknown): boolean {
  return (
    isGatewayError(error) &&
    ['upstream_error', 'upstream_timeout', 'unavailable', 'rate_limit_exceeded', 'model_not_found', 'plugin_unavailable'].includes(error.code)
  )
}

function wordsOf(error: unknown): string {
  return String((error as Error | undefined)?.message ?? error).slice(0, 500)
}
