/** LISTEN on a connection of its own that comes back by itself. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Logger } from '../contract/plugin.ts'

/** A running listener. */
export interface Listen {
  /** Resolves when it listens for the first time; rejects when the first attempt fails, and then it is over. */
  readonly listening: Promise<void>
  /** Ends it. Safe to call twice. */
  stop(): Promise<void>
}

const heartbeatMs = 15_000
const longestPauseMs = 5_000

/** Begins to listen. After each reconnect `onNotify('')` is called once, because notifications may have been missed. */
export function startListening(target: pg.ClientConfig, channel: string, onNotify: (payload: string) => void, log: Logger): Listen {
  const stopping = new AbortController()
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>()
  let first = true

  function call(payload = ''): void {
    try {
      onNotify(payload)
    } catch (error) {
      log.error('A listener of database notifications failed', { channel, error })
    }
  }

  /** Listens until the connection is lost, which it throws. */
  async function connect(onListening: () => void): Promise<never> {
    const client = new pg.Client({ ...target, query_timeout: 5_000 })
    const lost = once(client, 'end', { signal: stopping.signal }).then(() => Promise.reject(new Error('Connection terminated')))
    lost.catch(() => {})
    client.on('error', (error) => log.debug('The listening database connection ended', { channel, error }))
    // On PGlite every connection hears every channel.
    client.on('notification', (message) => message.channel === channel && !stopping.signal.aborted && call(message.payload))
    try {
      await Promise.race([lost, client.connect()])
      await client.query(`listen ${client.escapeIdentifier(channel)}`)
      onListening()
      // A peer that vanished without a word shows only when it is asked.
      for (;;) {
        await Promise.race([lost, sleep(heartbeatMs, undefined, { ref: false, signal: stopping.signal })])
        await client.query('select 1')
      }
    } finally {
      client.end().catch(() => {})
    }
  }

  async function run(): Promise<void> {
    for (let failures = 0; !stopping.signal.aborted; failures++) {
      await connect(() => {
        failures = 0
        if (!first) call()
        first = false
        resolve()
      }).catch(reject)
      if (first) return
      await sleep(Math.min(longestPauseMs, 50 * 2 ** Math.min(failures, 10)) * (1 + Math.random()), undefined, { signal: stopping.signal }).catch(() => {})
    }
  }

  const running = run()
  return {
    listening,
    async stop() {
      stopping.abort()
      await running
    },
  }
}
