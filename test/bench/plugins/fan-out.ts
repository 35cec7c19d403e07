/** A plugin of the benchmark: publishes as many live events as it is told. */
import { defineEvent, definePlugin, guard, rpc, t } from 'portico'
import { burst, burstText } from '../burst.ts'

const ticked = defineEvent('fan-out:ticked', t.Object({ n: t.Integer(), text: t.String() }), { scope: rpc, durable: false, summary: 'A number and some text' })

export default definePlugin({
  id: 'fan-out',
  version: '1.0.0',
  api: 1,
  summary: 'Publishes live events',
  events: [ticked],
  paths: ['/fan-out'],
  setup: (ctx) => ({
    routes: [
      guard(rpc, (app) =>
        app.post(
          '/fan-out',
          ({ query: { count } }) => {
            void burst(count, (n) => ctx.publish(ticked, { n, text: burstText }))
            return { count }
          },
          { query: t.Object({ count: t.Number() }) },
        ),
      ),
    ],
  }),
})
