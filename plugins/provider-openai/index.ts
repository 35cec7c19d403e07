/** The plugin `provider-openai`: OpenAI itself, forwarded to untouched; its language models by the AI SDK. */
import { definePlugin } from 'portico'
import { overLanguageModel, type ProviderOptions, providerTypes } from 'portico/plugins/models'
import { createOpenAiCompatible } from 'portico/plugins/provider-openai-compatible'

const origin = 'https://api.openai.com/v1'

export default definePlugin({
  id: 'provider-openai',
  version: '0.1.0',
  api: 1,
  summary: 'Models of OpenAI',
  adds: [providerTypes],
  setup(ctx) {
    ctx.add(providerTypes, { type: 'openai', create })
  },
})

function create(options: ProviderOptions) {
  const forwarder = createOpenAiCompatible({ ...options, baseUrl: options.baseUrl ?? origin })
  const { languageModel } = overLanguageModel(options.id, async (model) => {
    const { createOpenAI } = await import('@ai-sdk/openai')
    const { apiKey = '', headers } = options
    return createOpenAI({ baseURL: forwarder.baseUrl, apiKey, headers, name: options.id }).chat(model)
  })
  return { ...forwarder, languageModel }
}
