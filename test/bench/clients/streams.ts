/**
 * A client that keeps many model streams open at once, one on each connection, one after the other, for some seconds; bare sockets, so that it costs little.
 * Arguments: origin, bearer, streams, seconds. Prints one line of JSON: ms to the first token (p50, p95), gaps over 250 ms, tokens a second.
 */
const [origin = '', bearer, count = '0', seconds = '0'] = process.argv.slice(2)
const { hostname, port, host } = new URL(origin)
const body = JSON.stringify({ model: 'bench/mock', stream: true, messages: [{ role: 'user', content: 'Tell me a story.' }] })
const head = ['POST /v1/chat/completions HTTP/1.1', `Host: ${host}`, `Authorization: Bearer ${bearer}`, 'Content-Type: application/json']
const request = `${[...head, `Content-Length: ${body.length}`].join('\r\n')}\r\n\r\n${body}`

const rampMs = 1_000
const stallMs = 250

interface Slot {
  sentAt: number
  /** Of the last token; 0 = none of this stream was seen yet. */
  heardAt: number
}

const began = performance.now()
const first: number[] = []
let [stalls, tokens, ended] = [0, 0, 0]
const isOver = () => performance.now() - began > rampMs + Number(seconds) * 1000
const { promise: done, resolve: finish, reject } = Promise.withResolvers<void>()

function send(socket: { data: Slot; write(text: string): number }): void {
  Object.assign(socket.data, { sentAt: performance.now(), heardAt: 0 })
  socket.write(request)
}

const socket = {
  open: send,
  data(socket: { data: Slot; write(text: string): number; end(): unknown }, chunk: Buffer) {
    const now = performance.now()
    const slot = socket.data
    const heard = occurrences(chunk, 'data: {')
    if (heard > 0) {
      if (slot.heardAt === 0 && slot.sentAt - began > rampMs) first.push(now - slot.sentAt)
      if (slot.heardAt > 0 && now - slot.heardAt > stallMs) stalls++
      slot.heardAt = now
      tokens += heard
    } else if (slot.heardAt === 0 && !chunk.subarray(0, 12).equals(Buffer.from('HTTP/1.1 200'))) reject(new Error(chunk.toString()))
    if (chunk.subarray(-5).toString() !== '0\r\n\r\n') return
    if (!isOver()) return send(socket)
    socket.end()
    if (++ended === Number(count)) finish()
  },
  close: () => void (isOver() || reject(new Error('a connection was closed'))),
  error: (_: unknown, error: Error) => reject(error),
}

function occurrences(chunk: Buffer, what: string): number {
  let found = 0
  for (let at = chunk.indexOf(what); at >= 0; at = chunk.indexOf(what, at + what.length)) found++
  return found
}

for (let n = 0; n < Number(count); n++) {
  setTimeout(
    () => {
      Bun.connect<Slot>({ hostname, port: Number(port), data: { sentAt: 0, heardAt: 0 }, socket }).catch(reject)
    },
    (n / Number(count)) * rampMs,
  )
}
await done
first.sort((a, b) => a - b)
const at = (share: number) => first[Math.floor(first.length * share)]
console.log(JSON.stringify({ p50: at(0.5), p95: at(0.95), stalls, tokensPerSecond: (tokens * 1000) / (performance.now() - began) }))
process.exit(0)

export {}
