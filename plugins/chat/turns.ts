/** A turn: a run that somebody waits for, its answer in pieces as it comes. What is said is kept by `runs`. */
import type { PluginContext, Principal } from 'portico'
import { beginning } from 'portico/plugins/database'
import { type Run, type RunListener, type Runs, wholeRun } from 'portico/plugins/runs'
import { messageReceived, messageSent } from './contract.ts'

/** The event types this plugin owns. */
export const chatEvents = [messageReceived, messageSent] as const

/** What a turn begins with. */
export interface Message {
  readonly message: string
  readonly sessionKey?: string
  readonly model?: string
  readonly agentId?: string
  readonly context?: string | readonly string[]
  /** URLs, data: ones too. They go to the model with this turn only; what the bound allows stays in the session. */
  readonly images?: readonly string[]
  readonly channelId: string
}

/** A turn whose message is stored. */
export interface Turn {
  readonly sessionKey: string
  readonly runId: string
  readonly model: string
  /**
   * The pieces as they come, then how it ended. Once begun, it is to be read to its end or ended by the signal; what there is of the answer is stored either way.
   * @throws GatewayError when the answer is not whole
   */
  pieces(signal: AbortSignal): AsyncGenerator<string, TurnEnd>
}

/** How a turn ended, as `/api/chat` says it. */
export interface TurnEnd {
  readonly text: string
  readonly finishReason: string
  readonly inputTokens: number
  readonly outputTokens: number
}

/** Begins turns. */
export interface Turns {
  /** @throws GatewayError 503 `unavailable` when there is no model; `model_not_found`; `not_found` for another's session, or an agent that there is not */
  begin(message: Message, principal: Principal, request: Request): Promise<Turn>
}

/** What turns are made with. */
export interface TurnsOptions {
  readonly runs: Runs
  readonly publish: PluginContext<unknown, typeof chatEvents>['publish']
  /** When nobody names one. */
  readonly model?: string
  /** What every conversation begins with. */
  readonly system?: string
}

const previewLength = 200

/** Makes it. */
export function createTurns({ runs, publish, model, system }: TurnsOptions): Turns {
  const preset = { model, instructions: system }
  return {
    async begin(message, principal, request) {
      const { message: text, images = [], agentId: agent, sessionKey, channelId, model } = message
      const context = typeof message.context === 'string' ? [message.context] : message.context
      const leaving = new AbortController()
      const run = await runs.submit({
        ...{ principal, agent, sessionKey, channel: channelId, input: { text, images, context }, metadata: { chat: channelId } },
        ...{ override: { model }, preset },
        interactive: { signal: leaving.signal },
        announce: ({ sessionKey, model }, tx) =>
          publish(
            messageReceived,
            { sessionKey, channelId, model, preview: beginning(text, previewLength) },
            { tx, principal: principal.id, subject: sessionKey, request },
          ),
      })
      return {
        ...{ sessionKey: run.sessionKey, runId: run.id, model: run.model },
        pieces: (signal) => pieces(run, principal, leaving, signal),
      }
    },
  }

  async function* pieces({ id }: Run, principal: Principal, leaving: AbortController, signal: AbortSignal): AsyncGenerator<string, TurnEnd> {
    const leave = () => leaving.abort(signal.reason)
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
    try {
      for await (const update of runs.watch(id, principal, { signal })) {
        if (update.type === 'delta') yield update.text
        if (update.type === 'end') return toEnd(update.run)
      }
      throw signal.reason
    } finally {
      signal.removeEventListener('abort', leave)
      // Left at a piece, the run is left too.
      leaving.abort()
    }
  }
}

/** Says, with the run's end, that an answer was given. */
export function answersOf(publish: TurnsOptions['publish']): RunListener {
  return {
    concerns: ({ metadata }) => typeof metadata.chat === 'string',
    async ended(run, tx) {
      if (run.result === null) return
      const channelId = String(run.metadata.chat)
      const { inputTokens, outputTokens } = run.usage
      const finishReason = run.state === 'completed' ? (run.finishReason ?? 'stop') : run.state === 'cancelled' ? 'cancelled' : 'error'
      const about = { sessionKey: run.sessionKey, channelId, runId: run.id, model: run.model, preview: beginning(run.result, previewLength) }
      const options = { tx, principal: run.principal.id, subject: run.sessionKey }
      await publish(messageSent, { ...about, finishReason, tokens: inputTokens + outputTokens }, options)
    },
  }
}

function toEnd(run: Run): TurnEnd {
  const { result, finishReason, usage } = wholeRun(run)
  return { ...usage, text: result ?? '', finishReason: finishReason ?? 'stop' }
}
