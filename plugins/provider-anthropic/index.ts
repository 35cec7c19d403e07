/** The plugin `provider-anthropic`: Anthropic's models by the AI SDK, in OpenAI's wire form for those who forward. */
import { definePlugin } from 'portico'
import { type ModelInfo, type ModelProvider, overLanguageModel, type ProviderOptions, providerTypes } from 'portico/plugins/models'

const origin = 'https://api.anthropic.com/v1'
/** https://docs.anthropic.com/en/api/versioning */
const version = '2023-06-01'

export default definePlugin({
  id: 'provider-anthropic',
  version: '0.1.0',
  api: 1,
  summary: 'Models of Anthropic',
  adds: [providerTypes],
  setup(ctx) {
    ctx.add(providerTypes, { type: 'anthropic', create })
  },
})

function create({ id, baseUrl = origin, apiKey = '', headers, models }: ProviderOptions): ModelProvider {
  const base = baseUrl.replace(/\/+$/, '')
  return {
    ...overLanguageModel(id, async (model) => {
      const { createAnthropic } = await import('@ai-sdk/anthropic')
      return createAnthropic({ baseURL: base, apiKey, headers })(model)
    }),
    id,
    baseUrl: base,
    closed: models !== undefined,
    // https://docs.anthropic.com/en/api/models-list
    async models(signal): Promise<ModelInfo[]> {
      if (models) return models.map((model) => ({ id: model }))
      const response = await fetch(`${base}/models?limit=1000`, {
        ...{ signal, redirect: 'manual' },
        headers: { 'x-api-key': apiKey, 'anthropic-version': version, ...headers },
      })
      if (!response.ok) {
        await response.body?.cancel()
        throw new Error(`GET /models answered ${response.status}`)
      }
      const { data } = (await response.json()) as { data?: { id?: unknown; display_name?: unknown; created_at?: unknown }[] }
      return (data ?? []).flatMap(({ id: model, display_name: name, created_at: at }) => {
        const created = typeof at === 'string' ? Math.floor(Date.parse(at) / 1_000) : Number.NaN
        const more = { ...(Number.isNaN(created) ? {} : { created }), ...(typeof name === 'string' ? { description: name } : {}) }
        return typeof model === 'string' ? [{ id: model, ownedBy: 'anthropic', ...more }] : []
      })
    },
  }
}
