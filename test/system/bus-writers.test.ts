/** Writers whose transactions commit in another order than they began, on PostgreSQL: PGlite, with its one session, cannot show the fault this looks for. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { sql } from 'drizzle-orm'
import type { Transaction } from '../../kernel/contract/plugin.ts'
import { afterCommit } from '../../plugins/database/transactions.ts'
import { noted, StreamReader, startTestBus, type TestBus } from '../fixtures/bus.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import { until } from '../fixtures/until.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
}, 180_000)
afterAll(() => postgres.stop())

const writers = 10
const total = 2_000

/** Ten writers, one transaction per event, 0–8 ms long; one in ten rolls back. Resolves to the keys that committed. */
async function write({ store }: TestBus, publish: (tx: Transaction, key: string) => Promise<void>): Promise<string[]> {
  const committed: string[] = []
  let n = 0
  await Promise.all(
    Array.from({ length: writers }, async () => {
      while (n < total) {
        const key = `k${n++}`
        const fails = Math.random() < 0.1
        await store.db
          .transaction(async (tx) => {
            await publish(tx, fails ? `${key}-no` : key)
            await Bun.sleep(Math.random() * 8)
            if (fails) throw new Error('rolled back')
            committed.push(key)
          })
          .catch((error) => {
            if (!fails) throw error
          })
      }
    }),
  )
  return committed
}

/** Reads the log by its cursor, over and over, until `done` and nothing new is there. */
async function readByCursor({ store }: TestBus, done: () => boolean): Promise<string[]> {
  const keys: string[] = []
  let cursor = '0'
  for (;;) {
    const ending = done()
    const { rows } = await store.pool.query(`select id, data::json->>'text' as key from event_log_events where id > $1 order by id limit 100`, [cursor])
    keys.push(...rows.map(({ key }) => key))
    cursor = rows.at(-1)?.id ?? cursor
    if (ending && rows.length === 0) return keys
    await Bun.sleep(1)
  }
}

test('readers by cursor miss none of 2,000 events and see none of a transaction that rolled back', async () => {
  const url = await postgres.newDatabase()
  await using one = await startTestBus({ url })
  await using two = await startTestBus({ url })
  let finished = false
  let expected = Number.POSITIVE_INFINITY
  const bySql = readByCursor(one, () => finished && one.bus.stats().gauges['bus.outbox.lag'] === 0)
  // A client that comes back again and again, to one node and the other.
  const byStream = (async () => {
    const keys: string[] = []
    let since = '0-0'
    for (let turn = 0; keys.length < expected; turn++) {
      const reader = new StreamReader((turn % 2 === 0 ? one : two).bus, { since })
      const until = Math.min(expected, keys.length + 1 + Math.floor(Math.random() * 150))
      while (keys.length < until) {
        const frame = await Promise.race([reader.next(), Bun.sleep(50)])
        if (!frame) break
        if (frame.id) since = frame.id
        if (frame.event === noted.type) keys.push(frame.data.text)
      }
      await reader.cancel()
    }
    return keys
  })()
  const committed = await write(one, async (tx, key) => one.bus.publish('notes', noted, { n: 0, text: key }, { tx }))
  expected = committed.length
  await until(async () => (await one.store.pool.query('select from event_log_outbox')).rowCount === 0)
  finished = true
  const expectedKeys = [...committed].sort()
  expect((await bySql).sort()).toEqual(expectedKeys)
  expect((await byStream).sort()).toEqual(expectedKeys)
}, 180_000)

test('the same writers, with ids given in their own transactions, lose events: the test above can fail', async () => {
  await using node = await startTestBus({ url: await postgres.newDatabase() })
  let finished = false
  let n = 0
  const reader = readByCursor(node, () => finished)
  const committed = await write(node, async (tx, key) => {
    const id = BigInt(Date.now()) * 1_000_000n + BigInt(n++)
    await tx.execute(
      sql`insert into event_log_events (id, uid, type, source, time, data) values (${String(id)}, gen_random_uuid(), 'note:written', 'notes', now(), ${JSON.stringify({ n: 0, text: key })})`,
    )
    afterCommit(tx, () => {})
  })
  finished = true
  const seen = new Set(await reader)
  expect(committed.filter((key) => !seen.has(key)).length).toBeGreaterThan(0)
}, 180_000)
