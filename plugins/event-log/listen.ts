/** LISTEN on a connection of its own that comes back by itself. */
import pg from 'pg'
import type { Logger } from 'portico'
import type { DatabaseAccess } from 'portico/plugins/database'

const heartbeatMs = 15_000
const [shortestPauseMs, longestPauseMs] = [50, 5_000]

/** Resolves, when it listens, to its end; rejects when the first attempt fails. After each reconnect `onNotify('')` is called once, because notifications may have been missed. */
export async function startListening(
  { openPool }: Pick<DatabaseAccess, 'openPool'>,
  channel: string,
  onNotify: (payload: string) => void,
  log: Logger,
): Promise<() => Promise<void>> {
  let timer: ReturnType<typeof setTimeout> | undefined
  let connections = 0

  function call(payload = ''): void {
    try {
      if (!pool.ending) onNotify(payload)
    } catch (error) {
      log.error('A listener of database notifications failed', { channel, error })
    }
  }

  // A pool of one: asked for a connection that was lost, it makes another.
  const pool = openPool({
    ...{ max: 1, idleTimeoutMillis: 0, query_timeout: 5_000 },
    async onConnect(client) {
      // On PGlite every connection hears every channel.
      client.on('notification', (message) => message.channel === channel && call(message.payload))
      await client.query(`listen ${pg.escapeIdentifier(channel)}`)
      if (connections++ > 0) call()
    },
  })
  pool.on('error', (error) => {
    log.debug('The listening database connection ended', { channel, error })
    askIn(shortestPauseMs)
  })

  /** Asks, and asks again: soon without an answer, later with one, because a peer that vanished without a word shows only when it is asked. */
  function askIn(ms: number, pause = shortestPauseMs): void {
    clearTimeout(timer)
    if (pool.ending) return
    timer = setTimeout(async () => {
      if (await pool.query('select 1').catch(() => null)) askIn(heartbeatMs)
      else askIn(pause * (1 + Math.random()), Math.min(longestPauseMs, 2 * pause))
    }, ms)
  }

  try {
    await pool.query('select 1')
    askIn(heartbeatMs)
  } catch (error) {
    await pool.end()
    throw error
  }
  return async () => {
    clearTimeout(timer)
    await pool.end().catch(() => {})
  }
}
