/**
 * Readers of one event stream, each on a connection of its own; bare sockets, so that they cost little. Arguments: URL, bearer, readers. Prints `open` when all have
 * their first bytes. Then, for each line `FRAMES URL` it reads: posts to that URL, waits until every reader has got so many frames, and prints the ms it took.
 */
import { createInterface } from 'node:readline'

const [address = '', bearer, count = '0'] = process.argv.slice(2)
const { hostname, port, host, pathname, search } = new URL(address)
const readers = Number(count)
const authorization = `Bearer ${bearer}`
const request = `GET ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: ${authorization}\r\n\r\n`

interface Reader {
  opened: boolean
  /** The chunk before ended with the first half of the empty line that ends a frame. */
  half: boolean
}

let frames = 0
let expected = Number.POSITIVE_INFINITY
let complete = () => {}

function fail(error: unknown): never {
  console.error(error)
  process.exit(1)
}

function countFrames(reader: Reader, chunk: Buffer): void {
  if (reader.half && chunk[0] === 0x0a) frames++
  let at = chunk.indexOf('\n\n', reader.half ? 1 : 0)
  let end = 0
  for (; at >= 0; at = chunk.indexOf('\n\n', end)) {
    frames++
    end = at + 2
  }
  reader.half = chunk.length > end && chunk[chunk.length - 1] === 0x0a
  if (frames >= expected) complete()
}

function open(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const socket = {
    open: (socket: { write(text: string): number }) => void socket.write(request),
    data(socket: { data: Reader }, chunk: Buffer) {
      if (socket.data.opened) return countFrames(socket.data, chunk)
      // The head, and perhaps the stream's greeting.
      if (!chunk.subarray(0, 12).equals(Buffer.from('HTTP/1.1 200'))) fail(chunk.toString())
      socket.data.opened = true
      resolve()
    },
    close: () => fail('a reader was cut'),
    error: (_: unknown, error: Error) => fail(error),
  }
  Bun.connect<Reader>({ hostname, port: Number(port), data: { opened: false, half: false }, socket }).catch(fail)
  return promise
}

for (let n = 0; n < readers; n += 100) await Promise.all(Array.from({ length: Math.min(100, readers - n) }, open))
console.log('open')

for await (const line of createInterface(process.stdin)) {
  const [each = '0', url = ''] = line.split(' ')
  // Greetings and pings that are still on their way are not counted.
  await new Promise((resolve) => setTimeout(resolve, 100))
  const { promise, resolve } = Promise.withResolvers<void>()
  frames = 0
  expected = readers * Number(each)
  complete = resolve
  const at = performance.now()
  const answer = await fetch(url, { method: 'POST', headers: { authorization } })
  if (!answer.ok) fail(`${url}: ${answer.status} ${await answer.text()}`)
  await promise
  expected = Number.POSITIVE_INFINITY
  console.log(performance.now() - at)
}
