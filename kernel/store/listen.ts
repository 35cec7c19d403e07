/** LISTEN on a connection of its own that comes back by itself. */
import pg from 'pg'
import type { Logger } from '../contract/plugin.ts'

/** A running listener. */
export interface Listen {
  /** Resolves when it listens for the first time; rejects when the first attempt fails. */
  readonly listening: Promise<void>
  /** Ends it. Safe to call twice. */
  stop(): Promise<void>
}

const heartbeatMs = 15_000
const longestPauseMs = 5_000

/** Begins to listen. After each reconnect `onNotify('')` is called once, because notifications may have been missed. */
export function startListening(target: pg.ClientConfig, channel: string, onNotify: (payload: string) => void, log: Logger): Listen {
  let client: pg.Client | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  let failures = 0

  async function connect(): Promise<void> {
    const mine = new pg.Client({ ...target, query_timeout: 5_000 })
    client = mine
    let over = false
    const lost = (error?: Error) => {
      if (over) return
      over = true
      clearTimeout(timer)
      mine.end().catch(() => {})
      if (stopped) return
      if (error) log.debug('The listening database connection ended', { channel, error })
      timer = setTimeout(reconnect, Math.min(longestPauseMs, 100 * 2 ** Math.min(failures++, 10)) * (0.5 + Math.random() / 2))
    }
    mine.on('error', lost)
    mine.on('end', () => lost())
    // On PGlite every connection hears every channel.
    mine.on('notification', (message) => message.channel === channel && call(message.payload ?? ''))
    try {
      await mine.connect()
      await mine.query(`listen ${mine.escapeIdentifier(channel)}`)
    } catch (error) {
      lost(error as Error)
      throw error
    }
    if (stopped) return lost()
    failures = 0
    // A peer that vanished without a word shows only when it is asked.
    const beat = () => {
      timer = setTimeout(() => mine.query('select 1').then(beat, lost), heartbeatMs)
    }
    if (!over) beat()
  }

  function reconnect(): void {
    connect().then(
      () => stopped || call(''),
      () => {},
    )
  }

  function call(payload: string): void {
    try {
      onNotify(payload)
    } catch (error) {
      log.error('A listener of database notifications failed', { channel, error })
    }
  }

  return {
    listening: connect(),
    async stop() {
      stopped = true
      clearTimeout(timer)
      await client?.end().catch(() => {})
    },
  }
}
