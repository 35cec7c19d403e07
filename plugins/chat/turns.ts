/** A turn: a message goes to a model with what was said before, the answer comes in pieces, both are stored. The one place that will hand over to runs. */
import { randomBytes } from 'node:crypto'
import { GatewayError, type Logger, type PluginContext, type Principal } from 'portico'
import type { Models, ModelTarget } from 'portico/plugins/models'
import { messageReceived, messageSent, messageStreaming } from './contract.ts'
import type { SessionRow } from './schema.ts'
import type { Said, Sessions } from './sessions.ts'
import { beginning } from './storable.ts'
import { ask, type Ending, type WireMessage } from './wire.ts'

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
   * Asks the model: the pieces as they come, then how it ended. Once begun, it is to be read to its end or ended by the signal; what there is of the answer is
   * stored either way.
   * @throws GatewayError when the answer is not whole
   */
  pieces(signal: AbortSignal): AsyncGenerator<string, TurnEnd>
}

/** How a turn ended, as `/api/chat` says it. */
export interface TurnEnd extends Ending {
  readonly text: string
}

/** Begins turns. */
export interface Turns {
  /** @throws GatewayError 503 `unavailable` when there is no model; `model_not_found`; `not_found` for another's session */
  begin(message: Message, principal: Principal, request: Request): Promise<Turn>
}

/** What turns are made with. */
export interface TurnsOptions {
  readonly models: Models
  readonly sessions: Sessions
  readonly publish: PluginContext<unknown, typeof chatEvents>['publish']
  readonly log: Logger
  /** When nobody names one. */
  readonly model?: string
  /** What every conversation begins with. */
  readonly system?: string
}

const previewLength = 200
// Names of models that do not chat.
const mute = /embed|rerank|whisper|tts|moderation/i

/** Makes it. */
export function createTurns({ models, sessions, publish, log, model: preset, system }: TurnsOptions): Turns {
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

  return {
    async begin(message, principal, request) {
      if (message.agentId !== undefined && message.agentId !== 'default')
        throw new GatewayError('validation_failed', `There is no agent ${JSON.stringify(message.agentId.slice(0, 100))}: leave agentId out.`, {
          param: 'agentId',
        })
      const known = message.sessionKey === undefined ? undefined : await sessions.find(principal, message.sessionKey)
      const name = message.model ?? known?.model ?? preset ?? (await anyModel())
      const target = await models.resolve(name)
      const { sessionKey, channelId, message: text, images = [] } = message
      const { session, earlier } = await sessions.begin({ principal, sessionKey, model: name, channelId, text, images }, (row, tx) =>
        publish(
          messageReceived,
          { sessionKey: row.key, channelId, model: name, preview: beginning(text, previewLength) },
          { tx, principal: principal.id, subject: row.key, request },
        ),
      )
      const runId = `run_${randomBytes(9).toString('hex')}`
      const wire = toWire(earlier, message, system)
      return {
        sessionKey: session.key,
        runId,
        model: name,
        pieces: (signal) => pieces({ session, runId, name, target, wire, channelId, principal, request, signal }),
      }
    },
  }

  interface Running {
    readonly session: SessionRow
    readonly runId: string
    readonly name: string
    readonly target: ModelTarget
    readonly wire: readonly WireMessage[]
    readonly channelId: string
    readonly principal: Principal
    readonly request: Request
    readonly signal: AbortSignal
  }

  async function* pieces({ session, runId, name, target, wire, channelId, principal, request, signal }: Running): AsyncGenerator<string, TurnEnd> {
    let text = ''
    let ending: Ending = { finishReason: 'cancelled', inputTokens: 0, outputTokens: 0 }
    const answer = ask(models, target, wire, signal)
    try {
      for (;;) {
        const { done, value } = await answer.next()
        if (done) {
          ending = value
          return { ...ending, text }
        }
        text += value
        publish(messageStreaming, { sessionKey: session.key, runId, delta: value }, { principal: principal.id, subject: session.key, request })
        yield value
      }
    } catch (error) {
      if (!signal.aborted) ending = { ...ending, finishReason: 'error' }
      throw error
    } finally {
      // Left at a piece, the upstream is left too.
      await answer.return(ending)
      const { finishReason, inputTokens, outputTokens } = ending
      const tokens = inputTokens + outputTokens
      const sent = { sessionKey: session.key, channelId, runId, model: name, finishReason, tokens, preview: beginning(text, previewLength) }
      await sessions
        .finish(session, { text, model: name, finishReason }, (tx) =>
          publish(messageSent, sent, { tx, principal: principal.id, subject: session.key, request }),
        )
        .catch((error: unknown) =>
          // The database's own words: those around it hold the answer itself.
          log.error('An answer could not be stored', { sessionKey: session.key, error: String((error as Error).cause ?? error) }),
        )
    }
  }
}

function toWire(earlier: readonly Said[], { message, context, images = [] }: Message, system: string | undefined): WireMessage[] {
  const notes = (typeof context === 'string' ? [context] : (context ?? [])).filter((note) => note.trim() !== '')
  const first = [system, notes.length > 0 ? `Context:\n${notes.join('\n\n')}` : undefined].filter((part) => part !== undefined)
  // An answer of which nothing came says nothing to the model; one whose question is forgotten may not stand first.
  const said = earlier.filter(({ content }) => content !== '')
  const begin = said.findIndex(({ role }) => role === 'user')
  return [
    ...(first.length > 0 ? [{ role: 'system' as const, content: first.join('\n\n') }] : []),
    ...(begin < 0 ? [] : said.slice(begin)),
    {
      role: 'user',
      content:
        images.length === 0
          ? message
          : [{ type: 'text' as const, text: message }, ...images.map((url) => ({ type: 'image_url' as const, image_url: { url } }))],
    },
  ]
}
