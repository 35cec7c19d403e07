import { afterAll, expect, test } from 'bun:test'
import { generateText, type LanguageModel, streamText } from 'ai'
import { definePlugin } from 'portico'
import { startTestGateway } from 'portico/testkit'
import { startProviderServer } from '../../test/fixtures/provider-wire.ts'
import { startUpstream } from '../../test/fixtures/upstream.ts'
import { type Models, models } from './contract.ts'

const servers = {
  openai: await startUpstream({ models: ['gpt-5-mini'] }),
  anthropic: await startProviderServer('anthropic'),
  google: await startProviderServer('google'),
}
let service: Models
const gateway = await startTestGateway({
  config: Object.entries(servers)
    .map(([type, { url }]) => `[models.providers.${type}]\ntype = "${type}"\nbaseUrl = "${url}"\napiKey = "key"\n`)
    .join(''),
  plugins: [
    definePlugin({
      ...{ id: 'asker', version: '0.0.0', api: 1, summary: 'Takes the service', requires: { models } },
      setup(ctx) {
        service = ctx.services.models
      },
    }),
  ],
})
afterAll(async () => {
  await gateway.stop()
  for (const server of Object.values(servers)) await server.stop()
})

test.each([
  ['openai/gpt-5-mini', 'hello brave new world'],
  ['anthropic/claude-sonnet-4-5', 'Hello there, Ångström.'],
  ['google/gemini-2.5-flash', 'Hello there, Ångström.'],
])('%s is a language model of the AI SDK', async (name, text) => {
  const model = service.languageModel(await service.resolve(name)) as LanguageModel
  const prompt = 'hello brave new world'
  expect((await generateText({ model, prompt })).text).toBe(text)
  let streamed = ''
  for await (const piece of streamText({ model, prompt }).textStream) streamed += piece
  expect(streamed).toBe(text)
})
