/** Event streams over SSE: what a reader missed from the log, then what happens, as fast as the reader takes it and no further. */
import { contextOf, type EventDelivery, type Kernel, type KernelStats, type Logger, type Principal, selfReporting } from 'portico'
import { type EventLog, fromCursor, type LogFilter, toCursor } from 'portico/plugins/event-log'
import { type Envelope, frameOf } from './frames.ts'
import { encodeSse } from './sse.ts'
import { createEventView } from './view.ts'

/** What streams are made of. */
export interface StreamsOptions {
  readonly kernel: Pick<Kernel, 'eventTypes' | 'subscribeAll'>
  readonly eventLog: Pick<EventLog, 'head' | 'lastId' | 'read'>
  readonly log: Logger
  /** ms between pings; default 15,000. Another is for tests. */
  readonly pingMs?: number
}

/** What a reader asks for. */
export interface StreamOptions {
  readonly principal: Principal
  /** Patterns `message:*`, `key:created`, `*`; default all. */
  readonly types?: readonly string[]
  /** A cursor `<ms>-<n>`; absent = from now. */
  readonly since?: string
  /** Of `data:`; default the payload alone. */
  readonly envelope?: Envelope
  /** The request: its connection is held, its traffic not timed out. */
  readonly request: Request
}

/** All readers of this process. */
export interface Streams {
  /**
   * An SSE body: `ready`, what was missed since the cursor, then what happens. A cursor older than the log gets `gap` and what there is; one
   * beyond its end (another database) gets `gap` and what happens from now on.
   * @throws GatewayError `validation_failed` on a malformed cursor or pattern; what the request's `hold` throws
   */
  open(options: StreamOptions): ReadableStream<Uint8Array>
  /** Ends every reader; clients come back and resume. */
  end(): void
  stats(): KernelStats
}

type Reader = ReturnType<typeof createReader>

/** A reader that lets so many bytes wait is cut. */
const maxWaitingBytes = 512 * 1024
/** So many bytes at most are handed over at once, and may be stuck in a connection that nobody reads. */
const chunkBytes = 64 * 1024
/** Seconds until Bun closes the connection of a reader that was cut and does not read. */
const cutSeconds = 3

const everything: LogFilter = { types: null, principal: null }

/** Makes them; nothing is listened to while nobody reads. */
export function createStreams({ pingMs = 15_000, ...options }: StreamsOptions): Streams {
  const readers = new Set<Reader>()
  let stop: (() => void) | undefined
  let cut = 0
  let ping = { position: -1n, frame: encodeSse({}) }

  /** Most readers stand at the same place: the last frame is kept. */
  function pingAt(position: bigint): Uint8Array {
    if (ping.position !== position) ping = { position, frame: encodeSse({ comment: 'ping', id: toCursor(position) }) }
    return ping.frame
  }

  function start(): () => void {
    const unsubscribe = options.kernel.subscribeAll((event) => {
      for (const reader of readers) reader.take(event)
    })
    const timer = setInterval(() => {
      for (const reader of readers) reader.ping(pingAt)
    }, pingMs)
    return () => {
      clearInterval(timer)
      unsubscribe()
    }
  }

  function forget(reader: Reader): void {
    readers.delete(reader)
    if (readers.size > 0) return
    stop?.()
    stop = undefined
  }

  return {
    open(asked) {
      const reader: Reader = createReader(options, asked, {
        cut() {
          cut++
          context.idleTimeout(cutSeconds)
        },
        ended() {
          forget(reader)
          release()
        },
      })
      const context = contextOf(asked.request)
      const release = context.hold('events', (reason) => reader.end(reason === 'stopping'))
      context.idleTimeout(0)
      readers.add(reader)
      stop ??= start()
      return reader.stream
    },
    end() {
      for (const reader of readers) reader.end(true)
    },
    stats: () => ({
      gauges: { 'bus.readers': readers.size, 'bus.queue.bytes': [...readers].reduce((sum, reader) => sum + reader.waitingBytes(), 0) },
      counters: { 'bus.readers.cut': cut },
    }),
  }
}

/**
 * One reader. `replay`: reads the log page by page, one page per pull, until it stands at its head; `live`: takes what is delivered;
 * `cut`: fell behind, gets nothing more, and ends as soon as it reads again or leaves; until then its connection counts against the cap.
 */
function createReader({ kernel, eventLog, log }: StreamsOptions, options: StreamOptions, hooks: { cut(): void; ended(): void }) {
  const { envelope = 'payload' } = options
  const view = createEventView(kernel, options.principal, options.types)
  let position = options.since === undefined ? eventLog.head() : fromCursor(options.since, 'since')
  let state: 'replay' | 'live' | 'cut' | 'ended' = position === eventLog.head() ? 'live' : 'replay'
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
  const stream = selfReporting(new ReadableStream<Uint8Array>({ start, pull, cancel: () => over('ended') }, { highWaterMark: 0 }))
  if (state === 'live') ready()

  function ready(): void {
    opened = true
    const cursor = toCursor(position)
    push(encodeSse({ retry: 3_000, id: cursor, event: 'ready', data: { cursor } }))
  }

  /** A reader that is behind by more than the queue is cut. A single frame may be larger, or it would cut its reader at each return. */
  function push(frame: Uint8Array): void {
    if (waiting.length > 0 && waitingBytes + frame.length > maxWaitingBytes) {
      over('cut')
      return
    }
    waiting.push(frame)
    waitingBytes += frame.length
    if (hungry) flush()
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
      if (position >= eventLog.head()) state = 'live'
      else {
        const filter = view.filter()
        // Administrators are shown types that no plugin owns now as well.
        const page = await eventLog.read(position, filter.principal === null ? everything : filter)
        if (isOver()) return
        if (page.trimmed > position) gap(page.events[0]?.id ?? page.trimmed, page.trimmed)
        handOver(page.events, page.reached)
      }
    }
  }

  /** A cursor beyond the head may come from a node that is ahead. If it is beyond the log itself, the log is another one: the reader is told, and goes on from the tail. */
  async function begin(): Promise<void> {
    if (position <= eventLog.head()) return ready()
    push(encodeSse({ retry: 3_000 }))
    const foreign = position > (await eventLog.lastId())
    if (isOver()) return
    if (foreign) position = eventLog.head()
    ready()
    if (foreign) gap(position, position)
  }

  function gap(oldest: bigint, reached: bigint): void {
    push(encodeSse({ event: 'gap', data: { oldest: toCursor(oldest) } }))
    position = later(reached, position)
  }

  /** A page is bounded by itself: it is handed over whole, whatever waits. */
  function handOver(events: readonly EventDelivery[], reached: bigint): void {
    for (const event of events) {
      if (!view.shows(event)) continue
      const frame = frameOf(event, envelope)
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

  return {
    stream,
    end,
    waitingBytes: () => waitingBytes,
    take(event: EventDelivery): void {
      if (state !== 'live' || (event.id !== undefined && event.id <= position)) return
      position = event.id ?? position
      if (view.shows(event)) push(frameOf(event, envelope))
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

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
