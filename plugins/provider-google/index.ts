/** The plugin `provider-google`: Google's Gemini models by the AI SDK, in OpenAI's wire form for those who forward. */
import { definePlugin } from 'portico'
import { type ModelInfo, type ModelProvider, overLanguageModel, type ProviderOptions, providerTypes } from 'portico/plugins/models'

const origin = 'https://generativelanguage.googleapis.com/v1beta'

export default definePlugin({
  id: 'provider-google',
  version: '0.1.0',
  api: 1,
  summary: 'Models of Google (Gemini)',
  adds: [providerTypes],
  setup(ctx) {
    ctx.add(providerTypes, { type: 'google', create })
  },
})

function create({ id, baseUrl = origin, apiKey = '', headers, models }: ProviderOptions): ModelProvider {
  const base = baseUrl.replace(/\/+$/, '')
  return {
    ...overLanguageModel(id, async (model) => {
      const { createGoogleGenerativeAI } = await import('@ai-sdk/google')
      return createGoogleGenerativeAI({ baseURL: base, apiKey, headers })(model)
    }),
    id,
    baseUrl: base,
    closed: models !== undefined,
    // https://ai.google.dev/api/models#method:-models.list
    async models(signal): Promise<ModelInfo[]> {
      if (models) return models.map((model) => ({ id: model }))
      const response = await fetch(`${base}/models?pageSize=1000`, { signal, redirect: 'manual', headers: { 'x-goog-api-key': apiKey, ...headers } })
      if (!response.ok) {
        await response.body?.cancel()
        throw new Error(`GET /models answered ${response.status}`)
      }
      const { models: all } = (await response.json()) as { models?: { name?: unknown; displayName?: unknown; supportedGenerationMethods?: unknown }[] }
      return (all ?? []).flatMap(({ name, displayName, supportedGenerationMethods: can }) => {
        // What cannot chat is of no use here.
        if (typeof name !== 'string' || (Array.isArray(can) && !can.includes('generateContent'))) return []
        return [{ id: name.replace(/^models\//, ''), ownedBy: 'google', ...(typeof displayName === 'string' ? { description: displayName } : {}) }]
      })
    },
  }
}
