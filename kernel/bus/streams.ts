/** Event streams over SSE: what a reader missed from the log, then what happens, as fast as the reader takes it and no further. */
import type { EventStreamOptions } from '../contract/kernel-service.ts'
import { contextOf } from '../contract/request.ts'
import { encodeSse } from '../contract/sse.ts'
import { toTypeTest } from './catalogue.ts'
import { fromCursor, later, toCursor } from './cursor.ts'
import type { Delivery } from './delivery.ts'
import type { LogFilter, LogPage } from './log.ts'
import type { BusParts } from './parts.ts'

/** What readers need of the log. */
export interface StreamSource {
  read(position: bigint, filter: LogFilter): Promise<LogPage>
  /** The last id ever given, asked of the database. */
  lastId(): Promise<bigint>
}

type Parts = Pick<BusParts, 'log' | 'tail' | 'catalogue' | 'periods'>
type Reader = ReturnType<typeof createReader>

/** A reader that lets so many bytes wait is cut. */
const maxWaitingBytes = 512 * 1024
/** So many bytes at most are handed over at once, and may be stuck in a connection that nobody reads. */
const chunkBytes = 64 * 1024
/** Seconds until Bun closes the connection of a reader that was cut and does not read. */
const cutSeconds = 3
const replayEvents = 500

/** All readers of this process. */
export function createStreams(parts: Parts, source: StreamSource) {
  const readers = new Set<Reader>()
  let timer: ReturnType<typeof setInterval> | undefined
  let cut = 0
  let ping = { position: -1n, frame: encodeSse({}) }

  /** Most readers stand at the same place: the last frame is kept. */
  function pingAt(position: bigint): Uint8Array {
    if (ping.position !== position) ping = { position, frame: encodeSse({ comment: 'ping', id: toCursor(position) }) }
    return ping.frame
  }

  function forget(reader: Reader): void {
    readers.delete(reader)
    if (readers.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  return {
    count: () => readers.size,
    /** Bytes that wait for readers. */
    waitingBytes: () => [...readers].reduce((sum, reader) => sum + reader.waitingBytes(), 0),
    /** Readers that fell behind and were cut. */
    cut: () => cut,

    /** A new reader. @throws GatewayError on a malformed cursor or pattern, or too many streams of the principal */
    open(options: EventStreamOptions): ReadableStream<Uint8Array> {
      const reader: Reader = createReader({ ...parts, ...source }, options, {
        cut() {
          cut++
          context.idleTimeout(cutSeconds)
        },
        ended() {
          forget(reader)
          release()
        },
      })
      const context = contextOf(options.request)
      const release = context.hold('events', (reason) => reader.end(reason === 'stopping'))
      context.idleTimeout(0)
      readers.add(reader)
      timer ??= setInterval(() => {
        for (const each of readers) each.ping(pingAt)
      }, parts.periods.ping)
      return reader.stream
    },

    /** Gives the events to every reader that has caught up. */
    deliver(events: readonly Delivery[]): void {
      for (const reader of readers) reader.take(events)
    },

    /** Ends every reader; clients come back and resume. */
    end(): void {
      for (const reader of readers) reader.end(true)
    },
  }
}

/**
 * One reader. `replay`: reads the log page by page, one page per pull, until it stands at the head of the tail; `live`: takes what is delivered;
 * `cut`: fell behind, gets nothing more, and ends as soon as it reads again or leaves; until then its connection counts against the cap.
 */
function createReader({ log, tail, catalogue, read, lastId }: Parts & StreamSource, options: EventStreamOptions, hooks: { cut(): void; ended(): void }) {
  const { principal, envelope = 'payload' } = options
  const isAdmin = principal.scopes.includes('admin')
  const wants = toTypeTest(options.types)
  const seen = { version: -1, types: new Map<string, boolean>() }
  let position = options.since === undefined ? tail.head : fromCursor(options.since, 'since')
  let state: 'replay' | 'live' | 'cut' | 'ended' = position === tail.head ? 'live' : 'replay'
  let waiting: Uint8Array[] = []
  let waitingBytes = 0
  /** The connection asks for bytes, and there were none. */
  let hungry = false
  let opened = false
  /** Something waited at the last ping, and nothing was taken since. */
  let stalled = false
  let controller!: ReadableStreamDefaultController<Uint8Array>
  const start = (given: typeof controller) => {
    controller = given
  }
  const stream = new ReadableStream<Uint8Array>({ start, pull, cancel: () => over('ended') }, { highWaterMark: 0 })
  if (state === 'live') ready()

  function ready(): void {
    opened = true
    const cursor = toCursor(position)
    push(encodeSse({ retry: 3_000, id: cursor, event: 'ready', data: { cursor } }))
  }

  /** False when the reader was cut. A single frame may be larger than the queue, or it would cut its reader at each return. */
  function push(frame: Uint8Array): boolean {
    if (waiting.length > 0 && waitingBytes + frame.length > maxWaitingBytes) {
      over('cut')
      return false
    }
    waiting.push(frame)
    waitingBytes += frame.length
    if (hungry) flush()
    return true
  }

  /** Hands over what waits, joined, up to a chunk. False when nothing waits. */
  function flush(): boolean {
    let [count, size] = [0, 0]
    for (const { length } of waiting) {
      if (count > 0 && size + length > chunkBytes) break
      size += length
      count++
    }
    if (count === 0) return false
    const frames = waiting.splice(0, count)
    waitingBytes -= size
    hungry = false
    controller.enqueue(frames.length === 1 ? frames[0] : join(frames, size))
    return true
  }

  function over(as: 'cut' | 'ended'): void {
    if (state === 'ended') return
    state = as
    waiting = []
    waitingBytes = 0
    hooks[as]()
  }

  /** With `flushing`, what waits is still handed over. */
  function end(flushing: boolean): void {
    if (state === 'ended') return
    while (flushing && flush());
    over('ended')
    controller.close()
  }

  async function pull(): Promise<void> {
    stalled = false
    if (state === 'cut') return end(false)
    if (state === 'ended' || flush()) return
    hungry = true
    if (state !== 'replay') return
    await replay().catch((error) => {
      log.warn('An event stream ended because the log could not be read', { error })
      end(false)
    })
  }

  /** Reads on until there is something to hand over, or nothing more to read. */
  async function replay(): Promise<void> {
    if (!opened) await begin()
    while (state === 'replay' && hungry) {
      if (position >= tail.head) state = 'live'
      else if (position >= tail.floor) {
        const events = tail.after(position, replayEvents)
        handOver(events, events.at(-1)?.id ?? tail.head)
      } else {
        const page = await read(position, { types: isAdmin ? null : catalogue.types().filter(seesType), principal: isAdmin ? null : principal.id })
        if (isOver()) return
        if (page.trimmed > position) gap(page.events[0]?.id ?? page.trimmed, page.trimmed)
        // At the end of the log, what is under the tail's floor and missing was trimmed.
        handOver(page.events, page.reached ?? tail.floor)
      }
    }
  }

  /** A cursor beyond the head may come from a node that is ahead. If it is beyond the log itself, the log is another one: the reader is told, and goes on from the tail. */
  async function begin(): Promise<void> {
    if (position <= tail.head) return ready()
    push(encodeSse({ retry: 3_000 }))
    const foreign = position > (await lastId())
    if (isOver()) return
    if (foreign) position = tail.head
    ready()
    if (foreign) gap(position, position)
  }

  function gap(oldest: bigint, reached: bigint): void {
    push(encodeSse({ event: 'gap', data: { oldest: toCursor(oldest) } }))
    position = later(reached, position)
  }

  /** A page is bounded by itself: it is handed over whole, whatever waits. */
  function handOver(events: readonly Delivery[], reached: bigint): void {
    for (const event of events) {
      if (!sees(event)) continue
      const frame = event.frame(envelope)
      waiting.push(frame)
      waitingBytes += frame.length
    }
    position = later(reached, position)
    if (hungry) flush()
  }

  /** TypeScript does not see that the state changes while something is awaited. */
  function isOver(): boolean {
    return state === 'cut' || state === 'ended'
  }

  function sees(event: Delivery): boolean {
    return seesType(event.type) && (event.principal === undefined || isAdmin || event.principal === principal.id)
  }

  function seesType(type: string): boolean {
    if (seen.version !== catalogue.version) {
      seen.version = catalogue.version
      seen.types.clear()
    }
    const known = seen.types.get(type)
    if (known !== undefined) return known
    const sees = (wants?.(type) ?? true) && catalogue.allows(principal, type)
    seen.types.set(type, sees)
    return sees
  }

  return {
    stream,
    end,
    waitingBytes: () => waitingBytes,
    take(events: readonly Delivery[]): void {
      if (state !== 'live') return
      for (const event of events) {
        if (event.id !== undefined && event.id <= position) continue
        position = event.id ?? position
        if (sees(event) && !push(event.frame(envelope))) return
      }
    },
    /** Where there is other traffic on its way, none is needed; but a reader that took nothing since the last ping is cut. */
    ping(frameAt: (position: bigint) => Uint8Array): void {
      if (!opened || isOver()) return
      if (waiting.length === 0) push(frameAt(position))
      else if (stalled) over('cut')
      stalled = waiting.length > 0
    },
  }
}

function join(frames: readonly Uint8Array[], size: number): Uint8Array {
  const joined = new Uint8Array(size)
  let at = 0
  for (const frame of frames) {
    joined.set(frame, at)
    at += frame.length
  }
  return joined
}
