import { afterEach, beforeEach, expect, test } from 'bun:test'
import type { LogPage } from 'portico/plugins/event-log'
import { createTestSource, delta, loggedNote as logged, principalOf, StreamReader, silentLog } from '../../test/fixtures/bus.ts'
import { frameOf } from './frames.ts'
import { createStreams, type Streams } from './streams.ts'

let source: ReturnType<typeof createTestSource>
let tail: ReturnType<typeof createTestSource>['tail']
let streams: Streams
let reads: bigint[]
let lastId: () => Promise<bigint>
let page: (position: bigint) => Promise<LogPage>
const bus = () => ({ eventStream: streams.open })

beforeEach(() => {
  source = createTestSource()
  tail = source.tail
  reads = []
  lastId = async () => tail.head
  const read = (position: bigint) => {
    reads.push(position)
    return page(position)
  }
  const eventLog = { head: () => tail.head, lastId: () => lastId(), read: (position: bigint) => tail.page(position) ?? read(position) }
  streams = createStreams({ kernel: source.kernel, eventLog, log: silentLog, pingMs: 20 })
})
afterEach(() => streams.end())

const append: typeof source.append = (...events) => source.append(...events)
const live = (n: number, text?: string) => source.live(n, text)
const cut = () => streams.stats().counters['bus.readers.cut']
const waitingBytes = () => streams.stats().gauges['bus.queue.bytes']
const count = () => streams.stats().gauges['bus.readers']

test('a reader that never reads is cut: nothing waits for it any more, it counts until it leaves, and the next read ends it', async () => {
  const reader = new StreamReader(bus())
  const { connection } = reader
  for (let n = 0; n < 700; n++) live(n, 'x'.repeat(1_000))
  expect(cut()).toBe(1)
  expect(waitingBytes()).toBe(0)
  expect(connection.timeouts).toEqual([0, 3])
  expect(connection.released).toBe(0)
  expect(count()).toBe(1)
  expect(await reader.next()).toBeUndefined()
  expect(connection.released).toBe(1)
  expect(count()).toBe(0)
})

test('a cut reader that leaves is released', async () => {
  const reader = new StreamReader(bus())
  for (let n = 0; n < 700; n++) live(n, 'x'.repeat(1_000))
  await reader.cancel()
  expect(reader.connection.released).toBe(1)
})

test('a reader that keeps up is not cut, however much there is', async () => {
  const reader = new StreamReader(bus())
  await reader.next()
  for (let n = 0; n < 3_000; n++) {
    live(n, 'x'.repeat(1_000))
    if (n % 200 === 199) for (let m = n - 199; m <= n; m++) expect((await reader.next())?.data.n).toBe(m)
  }
  expect(cut()).toBe(0)
})

test('a frame larger than the queue reaches its reader, or it would cut it at each return', async () => {
  const reader = new StreamReader(bus())
  await reader.next()
  append(logged(1, 'x'.repeat(900_000)))
  expect((await reader.next())?.data.n).toBe(1)
})

test('the frame is encoded once for all readers of an envelope', () => {
  const event = logged(1)
  expect(frameOf(event, 'payload')).toBe(frameOf(event, 'payload'))
  expect(frameOf(event, 'payload')).not.toBe(frameOf(event, 'cloudevents'))
})

test('waiting frames are joined, in order, into chunks of at most 64 KiB', async () => {
  const stream = streams.open({ principal: principalOf('root', 'admin'), request: new StreamReader(bus()).connection.request })
  for (let n = 0; n < 200; n++) live(n, 'x'.repeat(1_000))
  const reader = stream.getReader()
  const sizes = [(await reader.read()).value!.length, (await reader.read()).value!.length, (await reader.read()).value!.length]
  expect(sizes[0]).toBeGreaterThan(60_000)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(65_536)
  await reader.cancel()
})

test('a ping carries the id that the reader has reached, also past events that it does not see', async () => {
  const reader = new StreamReader(bus(), { types: ['audit:*'] })
  await reader.next()
  expect(await reader.next()).toEqual({ comment: 'ping', id: '0-0' })
  append(logged(7))
  expect(await reader.next()).toEqual({ comment: 'ping', id: '0-7' })
})

test('a ping never runs ahead: behind a page that is being read it names the last event handed over', async () => {
  tail.reset(9n)
  const { promise, resolve } = Promise.withResolvers<LogPage>()
  page = () => promise
  const reader = new StreamReader(bus(), { since: '0-2' })
  expect((await reader.next())?.event).toBe('ready')
  expect(await reader.next()).toEqual({ comment: 'ping', id: '0-2' })
  resolve({ events: [logged(3), logged(9)], reached: 9n, trimmed: 0n })
  let frame = await reader.next()
  while (frame?.comment) frame = await reader.next()
  expect([frame, await reader.next()].map((each) => each?.id)).toEqual(['0-3', '0-9'])
})

test('replay asks for the next page only when the reader has taken the last', async () => {
  tail.reset(1_000n)
  page = async (position) => ({ events: [logged(Number(position) + 1, 'x'.repeat(100_000))], reached: position + 1n, trimmed: 0n })
  const reader = new StreamReader(bus(), { since: '0-0' })
  await reader.take(3)
  await Bun.sleep(10)
  expect(reads.length).toBeLessThanOrEqual(3)
})

test('a reader that takes nothing between two pings while something waits is cut, also in the middle of a replay', async () => {
  tail.reset(1_000n)
  page = async (position) => ({
    events: [logged(Number(position) + 1, 'x'.repeat(50_000)), logged(Number(position) + 2, 'x'.repeat(50_000))],
    reached: position + 2n,
    trimmed: 0n,
  })
  const reader = new StreamReader(bus(), { since: '0-0' })
  await reader.take(2)
  while (cut() === 0) await Bun.sleep(5)
  expect(waitingBytes()).toBe(0)
  expect(await reader.next()).toBeUndefined()
})

test('events trimmed in the middle of a replay are told', async () => {
  tail.reset(20n)
  page = async (position) => (position === 0n ? { events: [logged(1)], reached: 1n, trimmed: 0n } : { events: [logged(20)], reached: 20n, trimmed: 15n })
  const reader = new StreamReader(bus(), { since: '0-0' })
  expect((await reader.take(4)).map(({ event, id, data }) => id ?? `${event} ${data.oldest}`)).toEqual(['0-0', '0-1', 'gap 0-20', '0-20'])
})

test('a log that cannot be read ends the stream: the client comes back with its last id', async () => {
  tail.reset(20n)
  page = () => Promise.reject(new Error('away'))
  const reader = new StreamReader(bus(), { since: '0-1' })
  expect((await reader.next())?.event).toBe('ready')
  expect(await reader.next()).toBeUndefined()
  expect(reader.connection.released).toBe(1)
})

test('revoking ends the stream at once and hands nothing more over; stopping lets what waits through', async () => {
  const [revoked, stopped] = [new StreamReader(bus()), new StreamReader(bus())]
  live(1)
  revoked.connection.close('revoked')
  stopped.connection.close('stopping')
  expect(await revoked.next()).toBeUndefined()
  expect((await stopped.take(2)).map(({ event }) => event)).toEqual(['ready', delta.type])
  expect(await stopped.next()).toBeUndefined()
  expect([revoked.connection.released, stopped.connection.released, count()]).toEqual([1, 1, 0])
})

test('a cursor from a node that is ahead: what this node learns of while it asks the database is not skipped', async () => {
  append(logged(1))
  const { promise, resolve } = Promise.withResolvers<bigint>()
  lastId = () => promise
  const reader = new StreamReader(bus(), { since: '0-2' })
  expect(await reader.next()).toEqual({ retry: '3000' })
  append(logged(2), logged(3))
  resolve(3n)
  expect((await reader.take(2)).map(({ event, id }) => `${event} ${id}`)).toEqual(['ready 0-2', 'note:written 0-3'])
})

test('what the log has before the tail knows of it comes once', async () => {
  tail.reset(5n)
  page = async () => ({ events: [logged(4), logged(7)], reached: 7n, trimmed: 0n })
  const reader = new StreamReader(bus(), { since: '0-1' })
  expect((await reader.take(3)).map(({ id }) => id)).toEqual(['0-1', '0-4', '0-7'])
  const next = reader.next()
  await Bun.sleep(1)
  append(logged(7), logged(8))
  expect((await next)?.id).toBe('0-8')
})

test('too many streams of a principal are the request context’s to refuse, and cost nothing', () => {
  const { request } = new StreamReader(bus()).connection
  const context = (request as any)[Symbol.for('portico.context')]
  context.hold = () => {
    throw new Error('429')
  }
  expect(() => streams.open({ principal: principalOf('ann'), request })).toThrow('429')
  expect(count()).toBe(1)
})

test('patterns that are none are refused by name', () => {
  expect(() => new StreamReader(bus(), { types: ['a*b'] })).toThrow('A type pattern is')
  expect(() => new StreamReader(bus(), { types: Array.from({ length: 101 }, () => 'a:b') })).toThrow('at most 100')
})
