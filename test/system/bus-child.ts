/** A process with a bus, for the crash tests: writes events, handles them, and can die at a chosen point. Runs on Bun and Deno. */
import { writeSync } from 'node:fs'
import process from 'node:process'
import { openStore } from '../../plugins/database/open.ts'
import { noted, silentLog, startTestBus } from '../fixtures/bus.ts'

interface ChildOptions {
  readonly url: string
  /** Begins the keys of its events. */
  readonly name: string
  /** How many writers write on without end. */
  readonly writers: number
  /** Handles events, with a durable subscription. */
  readonly handles: boolean
  /** Dies at the n-th append: before it is sent, or when it is done and nothing is delivered yet. */
  readonly die?: { readonly at: 'before append' | 'after append'; readonly append: number }
}

const options: ChildOptions = JSON.parse(process.argv[2] ?? '{}')
const say = (line: string) => writeSync(1, `${line}\n`)
const die = () => process.kill(process.pid, 'SIGKILL')

say(`started ${process.pid}`)
const store = await openStore({ url: options.url, log: silentLog })
const { pool } = store
const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<unknown>
let appends = 0
pool.query = (async (...args: unknown[]) => {
  const dies = String(args[0]).includes('event_log_append') && ++appends === options.die?.append ? options.die.at : undefined
  if (dies === 'before append') die()
  const result = await query(...args)
  if (dies === 'after append') die()
  return result
}) as never

const { bus } = await startTestBus({ store, periods: { lease: 1_000, save: 50 } })
if (options.handles)
  bus.on(
    'pager',
    noted,
    async ({ data, id }) => {
      say(`handled ${data.text} ${id}`)
      await new Promise((resolve) => setTimeout(resolve, Math.random() < 0.05 ? 5 : 0))
    },
    { cursor: 'pages', from: 'oldest' },
  )

say('ready')
let n = 0
await Promise.all(
  Array.from({ length: options.writers }, async () => {
    for (;;) {
      const key = `${options.name}-${n++}`
      if (Math.random() < 0.3) {
        await bus.publish('notes', noted, { n: 0, text: key })
        say(`wrote ${key}`)
        continue
      }
      const fails = Math.random() < 0.2
      await store.db
        .transaction(async (tx) => {
          await bus.publish('notes', noted, { n: 0, text: fails ? `${key}-no` : key }, { tx })
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 5))
          if (fails) throw new Error('rolled back')
        })
        .then(
          () => say(`wrote ${key}`),
          (error) => {
            if (!fails) throw error
          },
        )
    }
  }),
)
if (options.writers === 0) await new Promise(() => {})
