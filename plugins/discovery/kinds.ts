/** The model servers that are looked for on this machine, and by what each is told from whatever else may listen there. */

/** Asks the server at one path, and gives its JSON; undefined for any other answer. */
export type Get = (path: string) => Promise<unknown>

/** A kind of model server. */
export interface Kind {
  /** Its provider's id, and its key under `[discovery.ports]`. */
  readonly id: 'ollama' | 'lmstudio' | 'llamacpp' | 'vllm'
  /** For people. */
  readonly name: string
  readonly port: number
  is(get: Get): Promise<boolean>
}

const field = (value: unknown, name: string): unknown => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined)

/** Each speaks OpenAI's wire form under /v1. */
export const kinds: readonly Kind[] = [
  // https://docs.ollama.com/api-reference/get-version
  { id: 'ollama', name: 'Ollama', port: 11_434, is: async (get) => typeof field(await get('/api/version'), 'version') === 'string' },
  // https://lmstudio.ai/docs/developer/rest/endpoints: its own API beside OpenAI's.
  { id: 'lmstudio', name: 'LM Studio', port: 1_234, is: async (get) => Array.isArray(field(await get('/api/v0/models'), 'data')) },
  // https://github.com/ggml-org/llama.cpp/tree/master/tools/server: GET /props. Many others like port 8080.
  { id: 'llamacpp', name: 'llama.cpp', port: 8_080, is: async (get) => field(await get('/props'), 'default_generation_settings') !== undefined },
  // https://docs.vllm.ai/en/stable/serving/openai_compatible_server: who owns its models.
  {
    id: 'vllm',
    name: 'vLLM',
    port: 8_000,
    async is(get) {
      const data = field(await get('/v1/models'), 'data')
      return Array.isArray(data) && data.some((model) => field(model, 'owned_by') === 'vllm')
    },
  },
]
