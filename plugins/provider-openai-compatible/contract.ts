/** What other plugins may use: a provider that forwards to any server which speaks OpenAI's wire form. */
export { createProvider as createOpenAiCompatible } from './provider.ts'
