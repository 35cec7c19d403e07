/** Providers whose models are the AI SDK's: made at once, loaded at the first call. */
import type { LanguageModelV4 as LanguageModel } from '@ai-sdk/provider'
import type { ModelProvider, WireRequest } from './contract.ts'

/** Loads an AI SDK provider, and gives the model of a name; of a call in wire form it is told the request. */
export type LoadModel = (model: string, request?: WireRequest) => Promise<unknown>

/** `chat` and `languageModel` of a provider. The package behind `load` is not touched before one of them is called. */
export function overLanguageModel(id: string, load: LoadModel): Required<Pick<ModelProvider, 'chat' | 'languageModel'>> {
  const loaded = (model: string, request?: WireRequest) => load(model, request) as Promise<LanguageModel>
  return {
    async chat(request) {
      const [{ chatOver }, model] = await Promise.all([import('./ai-sdk.ts'), loaded(request.model, request)])
      return chatOver(model, request)
    },
    languageModel: (model): LanguageModel => ({
      specificationVersion: 'v4',
      provider: id,
      modelId: model,
      get supportedUrls() {
        return loaded(model).then(({ supportedUrls }) => supportedUrls)
      },
      doGenerate: async (options) => (await loaded(model)).doGenerate(options),
      doStream: async (options) => (await loaded(model)).doStream(options),
    }),
  }
}
