/** The plugin `provider-openai-compatible`: any server that speaks OpenAI's wire form, forwarded to untouched. */
import { definePlugin } from 'portico'
import { providerTypes } from 'portico/plugins/models'
import { createProvider } from './provider.ts'

export default definePlugin({
  id: 'provider-openai-compatible',
  version: '0.1.0',
  api: 1,
  summary: 'Models of any server that speaks OpenAI’s wire form',
  adds: [providerTypes],
  setup(ctx) {
    ctx.add(providerTypes, { type: 'openai-compatible', create: createProvider })
  },
})
