/** `[models]`: providers by name, aliases. */
import { type Static, secret, t } from 'portico'

const provider = t.Object({
  type: t.String({ minLength: 1, description: 'A kind that some plugin contributes, e.g. openai-compatible' }),
  baseUrl: t.Optional(t.String({ pattern: '^https?://', description: 'e.g. http://127.0.0.1:9000/v1' })),
  apiKey: t.Optional(secret({ minLength: 1 })),
  headers: t.Record(t.String(), secret(), { default: {}, description: 'Sent with each request to it' }),
  models: t.Optional(t.Array(t.String({ minLength: 1 }), { maxItems: 10_000, description: 'Its complete list, instead of asking it' })),
  maxConcurrent: t.Integer({ minimum: 1, maximum: 100_000, default: 1_024, description: 'Calls to it at once, streams included; more get 429' }),
  timeoutMs: t.Integer({ minimum: 100, maximum: 86_400_000, default: 600_000, description: 'ms to the head of its answer, and of silence in its body' }),
})

/** The section. */
export const modelsConfig = t.Object({
  providers: t.Record(t.String({ pattern: '^(?!agent$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' }), provider, {
    default: {},
    description: 'By name; its models are NAME/MODEL. "agent" is reserved',
  }),
  aliases: t.Record(t.String(), t.String({ pattern: '^[^/]+/.+$' }), { default: {}, description: 'A short name → PROVIDER/MODEL' }),
})

/** What it holds. */
export type ModelsConfig = Static<typeof modelsConfig>
/** One provider of it. */
export type ProviderConfig = Static<typeof provider>
