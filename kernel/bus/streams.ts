/** Event streams over SSE: what a reader missed from the log, then what happens, as fast as the reader takes it and no further. */
import type { EventStreamOptions } from '../contract/kernel-service.ts'
import type { Logger } from '../contract/plugin.ts'
import type { Principal } from '../contract/principal.ts'
import { contextOf, type RequestContext } from '../contract/request.ts'
import { encodeSse } from '../contract/sse.ts'
import { type Catalogue, toTypeTest } from './catalogue.ts'
import { fromCursor, later, toCursor } from './cursor.ts'
import type { Delivery } from './delivery.ts'
import type { LogFilter, LogPage } from './log.ts'
import type { Tail } from './tail.ts'

/** What the streams work with. */
export interface StreamsOptions {
  readonly log: Logger
  readonly tail: Tail
  readonly catalogue: Catalogue
  /** ms between pings. */
  readonly pingMs: number
  /** Events of the log after a position. */
  read(position: bigint, filter: LogFilter): Promise<LogPage>
  /** The last id ever given, asked of the database. */
  lastId(): Promise<bigint>
}

/** All readers of this process. */
export interface Streams {
  readonly count: number
  /** Bytes that wait for readers. */
  readonly waitingBytes: number
  /** Readers that fell behind and were cut. */
  readonly cut: number
  /** A new reader. @throws GatewayError on a malformed cursor or pattern, or too many streams of the principal */
  open(options: EventStreamOptions): ReadableStream<Uint8Array>
  /** Gives the events to every reader that has caught up. */
  deliver(events: readonly Delivery[]): void
  /** Ends every reader; clients come back and resume. */
  end(): void
}

/** A reader that lets so many bytes wait is cut. */
const maxWaitingBytes = 512 * 1024
/** So many bytes at most are handed over at once, and may be stuck in a connection that nobody reads. */
const chunkBytes = 64 * 1024
/** Seconds until Bun closes the connection of a reader that was cut and does not read. */
const cutSeconds = 3
const replayEvents = 500

/** No readers yet. */
export function createStreams(options: StreamsOptions): Streams {
  const readers = new Set<Reader>()
  const totals = { cut: 0 }
  let timer: ReturnType<typeof setInterval> | undefined
  const forget = (reader: Reader) => {
    readers.delete(reader)
    if (readers.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
  const pings = createPings()

  return {
    get count() {
      return readers.size
    },
    get waitingBytes() {
      let sum = 0
      for (const reader of readers) sum += reader.waitingBytes
      return sum
    },
    get cut() {
      return totals.cut
    },
    open(request) {
      const since = request.since === undefined ? undefined : fromCursor(request.since, 'since')
      const reader = new Reader(options, request, since, () => totals.cut++)
      const release = reader.context.hold('events', (reason) => reader.end(reason === 'stopping'))
      reader.onEnd = () => {
        forget(reader)
        release()
      }
      reader.context.idleTimeout(0)
      readers.add(reader)
      timer ??= setInterval(() => {
        for (const each of readers) each.ping(pings)
      }, options.pingMs)
      return reader.stream()
    },
    deliver(events) {
      for (const reader of readers) reader.take(events)
    },
    end() {
      for (const reader of readers) reader.end(true)
    },
  }
}

/** Most readers stand at the same place: the last frame is kept. */
function createPings(): (position: bigint) => Uint8Array {
  let last: { position: bigint; frame: Uint8Array } = { position: -1n, frame: new Uint8Array() }
  return (position) => {
    if (last.position !== position) last = { position, frame: encodeSse({ comment: 'ping', id: toCursor(position) }) }
    return last.frame
  }
}

/**
 * One reader. `replay`: reads the log page by page, one page per pull, until it stands at the head of the tail; `live`: takes what is delivered;
 * `cut`: fell behind, gets nothing more, and ends as soon as it reads again or leaves; until then its connection counts against the cap.
 */
class Reader {
  readonly context: RequestContext
  onEnd: () => void = () => {}
  waitingBytes = 0
  #state: 'replay' | 'live' | 'cut' | 'ended' = 'live'
  #position: bigint
  #waiting: Uint8Array[] = []
  /** The connection asks for bytes, and there were none. */
  #hungry = false
  #opened = false
  /** Something waited at the last ping, and nothing was taken since. */
  #stalled = false
  #controller!: ReadableStreamDefaultController<Uint8Array>
  readonly #options: StreamsOptions
  readonly #principal: Principal
  readonly #isAdmin: boolean
  readonly #envelope: 'payload' | 'cloudevents'
  readonly #wants: ((type: string) => boolean) | null
  readonly #onCut: () => void
  #seen = { version: -1, types: new Map<string, boolean>() }

  constructor(options: StreamsOptions, request: EventStreamOptions, since: bigint | undefined, onCut: () => void) {
    this.context = contextOf(request.request)
    this.#options = options
    this.#principal = request.principal
    this.#isAdmin = request.principal.scopes.includes('admin')
    this.#envelope = request.envelope ?? 'payload'
    this.#wants = toTypeTest(request.types)
    this.#onCut = onCut
    this.#position = since ?? options.tail.head
    if (since === undefined || since === options.tail.head) this.#ready()
    else this.#state = 'replay'
  }

  stream(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller
        },
        pull: () => this.#pull(),
        cancel: () => this.#over(),
      },
      { highWaterMark: 0 },
    )
  }

  take(events: readonly Delivery[]): void {
    if (this.#state !== 'live') return
    for (const event of events) {
      if (event.id !== undefined) {
        if (event.id <= this.#position) continue
        this.#position = event.id
      }
      if (this.#sees(event) && !this.#push(event.frame(this.#envelope))) return
    }
  }

  /** Where there is other traffic on its way, none is needed; but a reader that took nothing since the last ping is cut. */
  ping(frame: (position: bigint) => Uint8Array): void {
    if (!this.#opened || this.#state === 'cut' || this.#state === 'ended') return
    if (this.#waiting.length === 0) this.#push(frame(this.#position))
    else if (this.#stalled) this.#cut()
    this.#stalled = this.#waiting.length > 0
  }

  /** With `flush`, what waits is still handed over. */
  end(flush: boolean): void {
    if (this.#state === 'ended') return
    if (flush) while (this.#waiting.length > 0) this.#flush()
    this.#over()
    this.#controller.close()
  }

  #over(): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#drop()
    this.onEnd()
  }

  #ready(): void {
    this.#opened = true
    const cursor = toCursor(this.#position)
    this.#push(encodeSse({ retry: 3_000, id: cursor, event: 'ready', data: { cursor } }))
  }

  /** False when the reader was cut. A single frame may be larger than the queue, or it would cut its reader at each return. */
  #push(frame: Uint8Array): boolean {
    if (this.#waiting.length > 0 && this.waitingBytes + frame.length > maxWaitingBytes) {
      this.#cut()
      return false
    }
    this.#waiting.push(frame)
    this.waitingBytes += frame.length
    if (this.#hungry) this.#flush()
    return true
  }

  #cut(): void {
    this.#state = 'cut'
    this.#drop()
    this.#onCut()
    this.context.idleTimeout(cutSeconds)
  }

  #drop(): void {
    this.#waiting = []
    this.waitingBytes = 0
  }

  /** Hands over what waits, joined, up to a chunk. False when nothing waits. */
  #flush(): boolean {
    let [count, size] = [0, 0]
    while (count < this.#waiting.length && (count === 0 || size + (this.#waiting[count]?.length ?? 0) <= chunkBytes))
      size += this.#waiting[count++]?.length ?? 0
    if (count === 0) return false
    const frames = this.#waiting.splice(0, count)
    this.waitingBytes -= size
    this.#hungry = false
    this.#controller.enqueue(frames.length === 1 ? (frames[0] as Uint8Array) : join(frames, size))
    return true
  }

  async #pull(): Promise<void> {
    this.#stalled = false
    if (this.#state === 'cut') return this.end(false)
    if (this.#state === 'ended' || this.#flush()) return
    this.#hungry = true
    if (this.#state === 'replay')
      await this.#replay().catch((error) => {
        this.#options.log.warn('An event stream ended because the log could not be read', { error })
        this.end(false)
      })
  }

  /** Reads on until there is something to hand over, or nothing more to read. */
  async #replay(): Promise<void> {
    const { tail } = this.#options
    if (!this.#opened) await this.#begin()
    while (this.#state === 'replay' && this.#hungry) {
      if (this.#position >= tail.head) this.#state = 'live'
      else if (this.#position >= tail.floor) {
        const events = tail.after(this.#position, replayEvents)
        this.#replayed(events, events.at(-1)?.id ?? tail.head)
      } else {
        const page = await this.#options.read(this.#position, { types: this.#visibleTypes(), principal: this.#isAdmin ? null : this.#principal.id })
        if (this.#state !== 'replay') return
        if (page.trimmed > this.#position) this.#gap(page)
        // At the end of the log, what is under the tail's floor and missing was trimmed.
        this.#replayed(page.events, page.reached > this.#position ? page.reached : tail.floor)
      }
    }
  }

  /** A cursor beyond the head may come from a node that is ahead. If it is beyond the log itself, the log is another one: the reader is told, and goes on from the tail. */
  async #begin(): Promise<void> {
    const { tail } = this.#options
    if (this.#position <= tail.head) return this.#ready()
    this.#push(encodeSse({ retry: 3_000 }))
    const last = await this.#options.lastId()
    if (this.#state !== 'replay') return
    const foreign = this.#position > last
    if (foreign) this.#position = tail.head
    this.#ready()
    if (foreign) this.#push(encodeSse({ event: 'gap', data: { oldest: toCursor(tail.head) } }))
  }

  #gap(page: LogPage): void {
    this.#push(encodeSse({ event: 'gap', data: { oldest: toCursor(page.events[0]?.id ?? page.trimmed) } }))
    if (page.trimmed > this.#position) this.#position = page.trimmed
  }

  #replayed(events: readonly Delivery[], reached: bigint): void {
    // One page is bounded by itself: it is handed over as it is, whatever waits.
    const frames = events.filter((event) => this.#sees(event)).map((event) => event.frame(this.#envelope))
    this.#position = later(reached, this.#position)
    for (const frame of frames) {
      this.#waiting.push(frame)
      this.waitingBytes += frame.length
    }
    if (this.#hungry) this.#flush()
  }

  #sees({ type, principal }: Delivery): boolean {
    return this.#seesType(type) && (principal === undefined || this.#isAdmin || principal === this.#principal.id)
  }

  #seesType(type: string): boolean {
    const { catalogue } = this.#options
    if (this.#seen.version !== catalogue.version) this.#seen = { version: catalogue.version, types: new Map() }
    const known = this.#seen.types.get(type)
    if (known !== undefined) return known
    const sees = (this.#wants?.(type) ?? true) && catalogue.allows(this.#principal, type)
    this.#seen.types.set(type, sees)
    return sees
  }

  #visibleTypes(): readonly string[] | null {
    return this.#isAdmin ? null : this.#options.catalogue.types().filter((type) => this.#seesType(type))
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
