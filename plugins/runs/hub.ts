/** What is known in memory of the runs that this process works on, and who waits for more. */
import type { Run, RunEntry } from './contract.ts'
import { GrowingText } from './growing-text.ts'

/** Progress that is kept for watchers who are slow. */
const keptProgress = 100

/** A tool's word on how far it is. */
export interface Progress {
  /** Counts up. */
  readonly n: number
  readonly callId: string
  readonly message: string
  readonly fraction?: number
}

/** A run under way here. */
export interface Topic {
  readonly run: Run
  readonly epoch: number
  /** The holder's own list: `entries[n].seq` is n + 1. */
  readonly entries: readonly RunEntry[]
  /** Of the model call under way, as far as it came. */
  readonly text: GrowingText
  readonly progress: Progress[]
  /** The run as it ended, once it has ended here. */
  over?: Run
}

/** Topics, and waiting. */
export interface Hub {
  open(run: Run, epoch: number, entries: readonly RunEntry[]): Topic
  find(runId: string): Topic | undefined
  /** `over`: as it ended, if it has; who follows it is told without another look at the database. */
  close(topic: Topic, over: Run | undefined): void
  progress(topic: Topic, callId: string, message: string, fraction?: number): Progress
  /** Wakes who waits for the run. */
  poke(runId: string): void
  /** Resolves at the next poke, after `ms`, or when the signal aborts. Ask before you look, so that nothing is missed. */
  changed(runId: string, ms: number, signal: AbortSignal): Promise<void>
}

/** Makes it. */
export function createHub(): Hub {
  const topics = new Map<string, Topic>()
  const waiting = new Map<string, Set<() => void>>()
  let count = 0

  const hub: Hub = {
    open(run, epoch, entries) {
      const topic: Topic = { run, epoch, entries, text: new GrowingText(), progress: [] }
      topics.set(run.id, topic)
      return topic
    },
    find: (runId) => topics.get(runId),
    close(topic, over) {
      topic.over = over
      if (topics.get(topic.run.id) === topic) topics.delete(topic.run.id)
      hub.poke(topic.run.id)
    },
    progress(topic, callId, message, fraction) {
      const made = { n: ++count, callId, message, ...(fraction === undefined ? {} : { fraction }) }
      topic.progress.push(made)
      if (topic.progress.length > keptProgress) topic.progress.shift()
      hub.poke(topic.run.id)
      return made
    },
    poke(runId) {
      const wakes = waiting.get(runId)
      waiting.delete(runId)
      for (const wake of wakes ?? []) wake()
    },
    changed(runId, ms, signal) {
      return new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer)
          signal.removeEventListener('abort', wake)
          const others = waiting.get(runId)
          if (others?.delete(wake) && others.size === 0) waiting.delete(runId)
          resolve()
        }
        const timer = setTimeout(wake, ms)
        if (signal.aborted) return wake()
        signal.addEventListener('abort', wake, { once: true })
        const others = waiting.get(runId)
        if (others) others.add(wake)
        else waiting.set(runId, new Set([wake]))
      })
    },
  }
  return hub
}
