/** Following a run: from its record and, where it is worked on here, word by word. Who comes again with the id of what was seen last misses and repeats nothing. */
import { type Database, GatewayError, type Principal } from 'portico'
import type { RunUpdate } from './contract.ts'
import type { GrowingText } from './growing-text.ts'
import type { Hub, Topic } from './hub.ts'
import { findRun, maySee, ownRun, readEntries, unknownRun } from './rows.ts'
import { isOver } from './schema.ts'

/** ms after which the record is read again though nobody said that it grew: other processes may have. */
const lookAgain = 5_000
/** Here every change is told. */
const hereForSure = 60_000

const ends: ReadonlySet<string | undefined> = new Set(['completed', 'failed', 'cancelled', 'rejected'])

/** Where a watcher stands: after an entry, and after so many characters of the model call that follows it, as the holder of that epoch makes it. */
interface Position {
  seq: number
  epoch: number
  offset: number
}

/** Makes it. */
export function createWatch(db: Database, hub: Hub) {
  return async function* watch(id: string, principal: Principal, { signal, after }: { signal: AbortSignal; after?: string }): AsyncGenerator<RunUpdate, void> {
    const at = readPosition(after)
    const here = hub.find(id)?.run
    if (!here) await ownRun(db, id, principal)
    else if (!maySee(principal, here)) throw unknownRun(id)
    let progress = 0
    let last: Topic | undefined
    // Ends the waiting too when the watcher leaves between two updates.
    using over = following(signal)
    while (!signal.aborted) {
      const topic = hub.find(id)
      const changed = hub.changed(id, topic ? hereForSure : lookAgain, over.signal)
      // Without a topic the state is read first: what is written before an end is then read too.
      last = topic ?? last
      const run = topic ? undefined : (last?.over ?? (await findRun(db, id)))
      if (!topic && !run) throw new GatewayError('gone', `${id} was deleted.`)
      const fresh = topic || last?.over ? (last as Topic).entries.slice(at.seq) : await readEntries(db, id, at.seq)
      for (const entry of fresh) {
        if (entry.type === 'model_call') {
          const text = String(entry.data.text ?? '')
          yield* rest(at, { length: text.length, since: (offset) => text.slice(offset) }, Number(entry.data.epoch))
          at.offset = 0
        }
        at.seq = entry.seq
        yield { type: 'entry', id: idOf(at), entry }
      }
      if (run && isOver(run.state)) {
        yield { type: 'end', id: idOf(at), run }
        return
      }
      // What was the last word stands in the record then.
      if (topic && topic.entries.length === at.seq && !ends.has(topic.entries.at(-1)?.type)) {
        yield* rest(at, topic.text, topic.epoch)
        for (const { n, ...said } of topic.progress)
          if (n > progress) {
            progress = n
            yield { type: 'progress', id: idOf(at), ...said }
          }
      }
      await changed
    }
  }

  /** What of the text the watcher has not seen. */
  function* rest(at: Position, text: Pick<GrowingText, 'length' | 'since'>, epoch: number): Generator<RunUpdate> {
    const isRestart = at.offset > 0 && at.epoch !== epoch
    if (isRestart) at.offset = 0
    if (text.length <= at.offset && !isRestart) return
    const piece = text.since(at.offset)
    Object.assign(at, { epoch, offset: text.length })
    yield { type: 'delta', id: idOf(at), text: piece, ...(isRestart ? { isRestart } : {}) }
  }
}

function following(signal: AbortSignal): { signal: AbortSignal } & Disposable {
  const over = new AbortController()
  const end = () => over.abort()
  if (signal.aborted) end()
  signal.addEventListener('abort', end, { once: true })
  return {
    signal: over.signal,
    [Symbol.dispose]() {
      signal.removeEventListener('abort', end)
      end()
    },
  }
}

function idOf({ seq, epoch, offset }: Position): string {
  return offset === 0 ? `${seq}` : `${seq}.${epoch}.${offset}`
}

function readPosition(id: string | undefined): Position {
  if (id === undefined) return { seq: 0, epoch: 0, offset: 0 }
  const match = /^(\d{1,9})(?:\.(\d{1,9})\.(\d{1,9}))?$/.exec(id)
  if (!match) throw new GatewayError('validation_failed', 'The id is none of this stream. Send the id of what you received last, or none to start anew.')
  return { seq: Number(match[1]), epoch: Number(match[2] ?? 0), offset: Number(match[3] ?? 0) }
}
