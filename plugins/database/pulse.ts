/** Whether the database answers at all, asked apart from the pool, whose connections may all be busy. */
import pg from 'pg'

/** ms: how long an answer is waited for, how long a borrowed connection arouses no suspicion, and how often one looks. */
const [answerMs, patienceMs, lookMs] = [1_500, 2_000, 1_000]

/**
 * Feels it from now on. With `cuts`, a server that gives no answer at all loses the connections that wait for it: whoever uses them hears it at once.
 * Nothing else tells a silent server from a slow statement.
 */
export function createPulse(pool: pg.Pool, target: pg.PoolConfig, { cuts }: { readonly cuts: boolean }) {
  const own = new pg.Pool({ ...target, max: 1, connectionTimeoutMillis: answerMs, query_timeout: answerMs }).on('error', () => {})
  const borrowed = new Map<pg.PoolClient, number>()
  pool.on('acquire', (client) => borrowed.set(client, performance.now()))
  pool.on('release', (_, client) => borrowed.delete(client))
  const waits = (since = Number.POSITIVE_INFINITY) => performance.now() - since > patienceMs
  const query = () => own.query('select 1')
  let asked: Promise<unknown> | undefined

  /** One round trip; all who ask at once share it. Rejects within 3 s. */
  const ask = (): Promise<unknown> => {
    // A connection that was cut while idle says nothing about the server: it is asked on another.
    asked ??= query()
      .catch(query)
      .catch((error) => {
        if (cuts && !(error instanceof pg.DatabaseError)) for (const [client, since] of borrowed) if (waits(since)) void client.end()
        throw error
      })
      .finally(() => {
        asked = undefined
      })
    return asked
  }

  const timer = setInterval(() => {
    const [oldest] = borrowed.values()
    if (cuts && waits(oldest)) ask().catch(() => {})
  }, lookMs).unref()

  return {
    ask,
    stop() {
      clearInterval(timer)
      own.end().catch(() => {})
    },
  }
}
