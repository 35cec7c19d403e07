/** The plugin `discovery`: Ollama, LM Studio, llama.cpp and vLLM on this machine, found by themselves. */
import { definePlugin, t } from 'portico'
import { models } from 'portico/plugins/models'
import { startFinder } from './finder.ts'
import { kinds } from './kinds.ts'

/** ms that a start waits for the first look: nobody listening is told at once, so it takes so long only where one answers slowly. */
const firstLookMs = 250

const port = ({ name, port }: (typeof kinds)[number]) =>
  t.Integer({ minimum: 0, maximum: 65_535, default: port, description: `Where ${name} is looked for; 0 = not at all` })
const [ollama, lmstudio, llamacpp, vllm] = kinds.map(port) as [
  ReturnType<typeof port>,
  ReturnType<typeof port>,
  ReturnType<typeof port>,
  ReturnType<typeof port>,
]

export default definePlugin({
  id: 'discovery',
  version: '0.1.0',
  api: 1,
  summary: 'Finds Ollama, LM Studio, llama.cpp and vLLM on this machine',
  config: t.Object({
    intervalSeconds: t.Number({ minimum: 0.05, maximum: 3_600, default: 5, description: 'Seconds between two looks' }),
    ports: t.Object({ ollama, lmstudio, llamacpp, vllm }, { default: {} }),
  }),
  requires: { models },
  setup(ctx) {
    const { models } = ctx.services
    models.expect(kinds.map(({ id }) => id))
    // Its own: what another set-up of this plugin found, which is about to be replaced, is withdrawn by that one.
    const source = Symbol(ctx.id)
    const { intervalSeconds, ports } = ctx.config
    // The first look is beside the other set-ups.
    const { first, ended } = startFinder({
      ...{ clock: ctx.clock, log: ctx.log, signal: ctx.signal, intervalMs: intervalSeconds * 1_000, ports },
      offer: (providers) => models.offer(source, providers),
    })
    ctx.defer(async () => {
      await ended
      models.offer(source, [])
    })
    return { ready: () => Promise.race([first, ctx.clock.sleep(firstLookMs, ctx.signal).catch(() => undefined)]) }
  },
})
