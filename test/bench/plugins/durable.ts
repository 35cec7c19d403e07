/** A plugin of the benchmark: ten writers, each transaction one row, with or without a durable event that three subscriptions handle. */
import { sql } from 'drizzle-orm'
import { defineEvent, definePlugin, guard, rpc, t } from 'portico'

const wrote = defineEvent('durable:wrote', t.Object({ n: t.Integer() }), { scope: rpc, durable: true, summary: 'A row was written' })

const durationMs = 2_000
const writers = 10
const subscriptions = ['one', 'two', 'three']

export default definePlugin({
  id: 'durable',
  version: '1.0.0',
  api: 1,
  summary: 'Writes rows and durable events',
  events: [wrote],
  paths: ['/durable'],
  async setup(ctx) {
    await ctx.db.execute(sql`create table if not exists durable_rows (id bigint generated always as identity primary key, n integer not null)`)
    let handled = 0
    let expected = Number.POSITIVE_INFINITY
    let complete = () => {}
    for (const cursor of subscriptions) {
      ctx.on(
        wrote,
        () => {
          if (++handled >= expected) complete()
        },
        { cursor },
      )
    }

    /** Transactions a second, until the last event of them is handled by all. */
    async function rate(publishes: boolean): Promise<number> {
      const { promise, resolve } = Promise.withResolvers<void>()
      ;[handled, expected, complete] = [0, Number.POSITIVE_INFINITY, resolve]
      const at = performance.now()
      let n = 0
      const write = async () => {
        while (performance.now() - at < durationMs) {
          const own = n++
          await ctx.db.transaction(async (tx) => {
            await tx.execute(sql`insert into durable_rows (n) values (${own})`)
            if (publishes) await ctx.publish(wrote, { n: own }, { tx })
          })
        }
      }
      await Promise.all(Array.from({ length: writers }, write))
      expected = n * subscriptions.length
      if (publishes && handled < expected) await promise
      return (n * 1000) / (performance.now() - at)
    }

    return {
      routes: [
        guard(rpc, (app) =>
          app.post('/durable/plain', async () => ({ rate: await rate(false) })).post('/durable/logged', async () => ({ rate: await rate(true) })),
        ),
      ],
    }
  },
})
