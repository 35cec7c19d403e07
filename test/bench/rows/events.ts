/** What an event costs its publisher: a live one, and a durable one. */
import { startPostgres } from '../../fixtures/postgres.ts'
import { freshGateway, withPlugins } from '../gateway.ts'
import type { Row } from '../row.ts'

/** Posts, and reads the rate that is answered. */
async function rateOf(url: string, key: string): Promise<number[]> {
  const answer = await fetch(url, { method: 'POST', headers: { authorization: `Bearer ${key}` } })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return [((await answer.json()) as { rate: number }).rate]
}

export const publish: Row = {
  id: 'publish',
  figures: [
    {
      id: 'publish',
      title: 'publishing a live event that 10 listen to, against calling the 10 functions after a compiled check of the data',
      unit: 'events/s',
      digits: 0,
      bound: { least: 0.3 },
      limit:
        'the time stamp: where few events are published in one turn of the event loop, the text of the time and the microtask that forgets it cost more than ten listeners.',
    },
  ],
  async prepare(scope, { runtime }) {
    const { url, key } = await freshGateway(scope, runtime, withPlugins('publish'))
    return { baseline: () => rateOf(`${url}/publish/direct`, key), gateway: () => rateOf(`${url}/publish/bus`, key) }
  },
}

export const durable: Row = {
  id: 'durable',
  figures: [
    {
      id: 'durable',
      title: 'transactions of 10 writers, each with a durable event that 3 subscriptions handle, against the same transactions without an event; PostgreSQL',
      unit: 'transactions/s',
      digits: 0,
      bound: { least: 0.6 },
      limit:
        'a transaction of three statements has a fourth, which drizzle puts together anew each time, and PostgreSQL writes each event twice and deletes it once: outbox, log.',
    },
  ],
  async prepare(scope, { runtime }) {
    // As in production: what a commit costs there stands on both sides.
    const postgres = await startPostgres({ fsync: true })
    scope.defer(postgres.stop)
    const { url, key } = await freshGateway(scope, runtime, `${withPlugins('durable')}[database]\nurl = "${await postgres.newDatabase()}"\n`)
    return { baseline: () => rateOf(`${url}/durable/plain`, key), gateway: () => rateOf(`${url}/durable/logged`, key) }
  },
}
