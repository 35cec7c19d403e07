/** A plugin of the benchmark: how often a second it can publish a live event that ten listen to, and how often call ten functions after a compiled check. */
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { defineEvent, definePlugin, guard, rpc, t } from 'portico'

const schema = t.Object({ runId: t.String(), n: t.Integer(), text: t.String() })
const told = defineEvent('publish:told', schema, { scope: rpc, durable: false, summary: 'A piece of text' })

const durationMs = 500
/** Of what is published in one turn; each turn has its own time stamp. */
const perTurn = 10

/** Calls a second. */
async function rate(call: (n: number) => void): Promise<number> {
  const at = performance.now()
  let n = 0
  for (let ms = 0; ms < durationMs; ms = performance.now() - at) {
    for (let turn = 0; turn < 100; turn++) {
      for (const end = n + perTurn; n < end; n++) call(n)
      await undefined
    }
  }
  return (n * 1000) / (performance.now() - at)
}

export default definePlugin({
  id: 'publish',
  version: '1.0.0',
  api: 1,
  summary: 'Publishes to ten listeners',
  events: [told],
  paths: ['/publish'],
  setup(ctx) {
    const seen = Array.from({ length: 10 }, () => 0)
    const listeners = seen.map((_, index) => ({ data }: { data: { n: number } }) => {
      seen[index] = data.n
    })
    for (const listener of listeners) ctx.on(told, listener)
    const check = TypeCompiler.Compile(schema)
    const data = (n: number) => ({ runId: 'run-1', n, text: 'word' })
    const direct = (data: { n: number }) => {
      if (!check.Check(data)) throw new Error('it does not fit')
      for (const listener of listeners) listener({ data })
    }
    return {
      routes: [
        guard(rpc, (app) =>
          app
            .post('/publish/bus', async () => ({ rate: await rate((n) => void ctx.publish(told, data(n))) }))
            .post('/publish/direct', async () => ({ rate: await rate((n) => direct(data(n))) })),
        ),
      ],
    }
  },
})
