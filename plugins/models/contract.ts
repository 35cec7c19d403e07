/** What other plugins may know of models: the service, the two slots providers come in by, the events, and the wire form. */
import { defineEvent, defineService, defineSlot, type Logger, type Principal, rpc, t } from 'portico'

export { type LoadModel, overLanguageModel } from './language-model.ts'
export { type ChatAnswer, type ChatResponseOptions, type ChatUsage, chatResponse, type ToolCall, wireError } from './wire.ts'

/** One model as its provider names it. */
export interface ModelInfo {
  /** The provider's own name, without the provider: `gpt-5`, `meta-llama/Llama-4`. */
  readonly id: string
  /** Seconds since the epoch; 0 when unknown. */
  readonly created?: number
  readonly ownedBy?: string
  /** For people. */
  readonly description?: string
}

/** A call in OpenAI's wire form. */
export interface WireRequest {
  /** JSON: the client's own bytes, but for the value of `model`, which is the provider's own name. */
  readonly body: Uint8Array
  /** The provider's own name of the model. */
  readonly model: string
  /** Aborted when nobody waits for the answer any more, also while its body is being read: reject then. */
  readonly signal: AbortSignal
  /** Who asks; absent = the gateway itself. */
  readonly principal?: Principal
  /** The few headers of the client that concern the upstream: lower case. Never a credential. */
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * A source of models. `chat` and `embeddings` answer OpenAI's wire form, errors included, and what they return reaches the client as it is. They reject only
 * when no answer could be had. A provider without them cannot do that.
 */
export interface ModelProvider {
  /** The part before the slash in `provider/model`. */
  readonly id: string
  /** Its list is complete: any other name is a 404, without asking it. */
  readonly closed?: boolean
  /** Where it lies: what prices are looked up by. */
  readonly baseUrl?: string
  /** Calls at once, streams included; default 1,024. */
  readonly maxConcurrent?: number
  /** ms to the head of an answer, and of silence in its body; default 600,000. */
  readonly timeoutMs?: number
  /** Set = it cannot be called now, and this sentence says why: it has no models, and calls are 503. */
  readonly down?: string
  models(signal: AbortSignal): Promise<readonly ModelInfo[]>
  chat?(request: WireRequest): Promise<Response>
  embeddings?(request: WireRequest): Promise<Response>
  /** The AI SDK's `LanguageModel` of this name. */
  languageModel?(model: string): unknown
}

/** One `[models.providers.NAME]`, as its type is given it. */
export interface ProviderOptions {
  /** NAME. */
  readonly id: string
  readonly baseUrl?: string
  readonly apiKey?: string
  readonly headers: Readonly<Record<string, string>>
  /** A complete list instead of asking. */
  readonly models?: readonly string[]
  readonly log: Logger
}

/** A kind of provider that config may name. */
export interface ProviderType {
  /** What stands in `type = "…"`. */
  readonly type: string
  /** Throws a `GatewayError` that names the key at fault. */
  create(options: ProviderOptions): ModelProvider
}

/** A model as clients see it. */
export interface ListedModel {
  /** `provider/model`, or an alias. */
  readonly id: string
  readonly provider: string
  readonly model: string
  readonly created: number
  readonly ownedBy: string
  readonly description?: string
}

/** Where a name leads. */
export interface ModelTarget {
  readonly provider: string
  /** The provider's own name. */
  readonly model: string
}

/** What a provider can be called for. */
export type WireKind = 'chat' | 'embeddings'

/** A call through the service. */
export interface WireCallRequest extends WireRequest {
  readonly provider: string
  /** Aborts `signal`. Without it the call makes a signal of its own, which costs as much as all the rest. */
  abort?(reason: unknown): void
  /** Bodies of at most so many announced bytes are read before the call returns: much cheaper than a stream. Default 0. */
  readonly inOne?: number
}

/** A call whose head has come. */
export interface WireCall {
  readonly status: number
  readonly headers: Headers
  /** Its length, if it was announced and says how many bytes `body` has. */
  readonly length: number | null
  /** Small ones (see `inOne`) are here in one piece, and the call is over. One that broke off is a stream that fails. */
  readonly body: ArrayBuffer | ReadableStream<Uint8Array> | null
  /** ms of silence after which its body counts as dead. */
  readonly silenceMs: number
  /** To be called once a streamed body was read to the end; frees its place. More calls do nothing. */
  done(): void
  /** Instead of `done`: leaves the upstream at once. */
  abort(): void
}

/** Tokens of one call. */
export interface TokenUsage {
  /** All of them, cached ones included. */
  readonly inputTokens: number
  readonly outputTokens: number
  readonly cacheReadTokens?: number
  readonly cacheWriteTokens?: number
}

/** How a provider is. */
export interface ProviderStatus {
  readonly id: string
  readonly state: 'ok' | 'degraded' | 'auth_cooldown' | 'down'
  /** ms since the epoch: calls are refused until then. */
  readonly until?: number
  /** Calls under way. */
  readonly active: number
  readonly models: number
}

/** The service `models`. */
export interface Models {
  /**
   * Where a name leads: `provider/model`, an alias, or the name of a model that only one provider has. A promise only when catalogs must be asked first.
   * Throws `model_not_found`, naming the candidates when there are several.
   */
  resolve(name: string): ModelTarget | Promise<ModelTarget>
  /** Every model and alias, sorted: the same array until something changes. A promise only while some provider was never heard, at most a second. */
  list(): readonly ListedModel[] | Promise<readonly ListedModel[]>
  /**
   * Calls the provider. Throws `upstream_error`, `upstream_timeout`, `unavailable` (cooling down), `rate_limit_exceeded` (too many at once) or `model_not_found`
   * (cannot do that). An upstream that refuses the gateway's own credential (401), or redirects, is an `upstream_error` too; every other answer is returned as
   * it is.
   */
  call(kind: WireKind, request: WireCallRequest): Promise<WireCall>
  /** The AI SDK's model. Throws `not_implemented` when its provider has none. */
  languageModel(target: ModelTarget): unknown
  providers(): readonly ProviderStatus[]
  /**
   * Providers that come and go: those of this source (one for each set-up that offers, such as `Symbol(ctx.id)`) are these from now on. A change is another
   * object. One whose id is taken, by the config, a plugin or a source that was there before, is not taken until that one is gone.
   */
  offer(source: symbol, providers: readonly ModelProvider[]): void
  /** Ids that may come by `offer` one day: aliases may name them before. To be called in `setup`. */
  expect(ids: readonly string[]): void
  readonly prices: {
    /** US dollars, or null when nobody published a price. */
    cost(target: ModelTarget, usage: TokenUsage): Promise<number | null>
  }
}

/** The ref of the service. */
export const models = defineService<Models>('models')

/** Providers that are there already. How long a call may take, their `timeoutMs` says. */
export const modelProviders = defineSlot<ModelProvider>('modelProviders', { deadline: Number.POSITIVE_INFINITY })
/** Kinds of providers that `[models.providers.NAME] type = "…"` may name. */
export const providerTypes = defineSlot<ProviderType>('providerTypes')

const provider = t.String({ description: 'The provider’s name' })
const until = t.String({ format: 'date-time', description: 'Calls are refused until then' })

/** A provider's list of models came in, or changed. */
export const catalogLoaded = defineEvent('model:catalog_loaded', t.Object({ provider, models: t.Integer({ minimum: 0 }) }), {
  scope: rpc,
  durable: true,
  summary: 'A provider’s list of models came in, or changed',
})
/** A provider refused the gateway's credential. */
export const authCooldown = defineEvent('model:auth_cooldown', t.Object({ provider, status: t.Integer(), until }), {
  scope: rpc,
  durable: true,
  summary: 'A provider refused the gateway’s credential and is left alone for a while',
})
/** A provider failed repeatedly. */
export const providerDegraded = defineEvent('provider:degraded', t.Object({ provider, reason: t.String(), failures: t.Integer(), until }), {
  scope: rpc,
  durable: true,
  summary: 'A provider failed repeatedly and is left alone for a while',
})
/** A provider that was degraded or cooling down answered again. */
export const providerRecovered = defineEvent('provider:recovered', t.Object({ provider, downMs: t.Integer({ minimum: 0 }) }), {
  scope: rpc,
  durable: true,
  summary: 'A provider that failed answers again',
})
