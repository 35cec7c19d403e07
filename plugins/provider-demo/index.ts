/** The plugin `provider-demo`: two deterministic stand-ins for models, so that everything can be tried without one. They are labelled as demo everywhere. */
import { definePlugin } from 'portico'
import { modelProviders } from 'portico/plugins/models'
import { createDemoProvider } from './provider.ts'

export default definePlugin({
  id: 'provider-demo',
  version: '0.1.0',
  api: 1,
  summary: 'Demo models: demo/echo and demo/tools, no real models',
  adds: [modelProviders],
  setup(ctx) {
    ctx.add(modelProviders, createDemoProvider(ctx.clock), { order: 100 })
  },
})
