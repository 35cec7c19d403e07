/**
 * Serves PostgreSQL's wire protocol (version 3, "Frontend/Backend Protocol") for a database that has ONE session. Units of messages, not messages, are
 * queued: a connection holds the session from its first unit until ReadyForQuery says idle. Not for the network: it asks for no password.
 */
import { createServer, type Server, type Socket } from 'node:net'

/** What the server runs on. */
export interface WireOptions {
  /** Runs whole frontend messages, gives the backend's bytes. Synchronous: the session is never entered twice. */
  execute(messages: Uint8Array): Uint8Array
  /** Sent to each client at its start. */
  parameters: Readonly<Record<string, string>>
  /** ms that the holder of the session may be silent inside a transaction; then it is rolled back and its connection cut. */
  silenceMs: number
  /** Bytes of one unit at most; default 256 MB. */
  maxUnitBytes?: number
}

interface Connection {
  readonly socket: Socket
  /** Whole units, each ready to run. */
  readonly units: Buffer[]
  started: boolean
  closed: boolean
}

const code = (letter: string) => letter.charCodeAt(0)
/** Messages that end a unit: Query, Sync, FunctionCall, Flush, CopyData, CopyDone, CopyFail. */
const unitEnds = new Set([...'QSFHdcf'].map(code))
const [terminate, notification, readyForQuery, idle] = ['X', 'A', 'Z', 'I'].map(code)
const cancelRequest = 80877102
const encryptionRequests = new Set([80877103, 80877104])
const rollback = Buffer.concat([message('S'), message('Q', 'rollback\0')])

/** A server, not yet listening. Its `close` and the sockets are the caller's to end. */
export function createWireServer(options: WireOptions): Server {
  const { execute, parameters, silenceMs, maxUnitBytes = 256 << 20 } = options
  const connections = new Set<Connection>()
  const waiting: Connection[] = []
  let holder: Connection | undefined
  let silence: ReturnType<typeof setTimeout> | undefined
  let pumping = false

  /** One unit per turn of the event loop, so that sockets are read and written in between. */
  function pump(): void {
    if (pumping) return
    pumping = true
    setImmediate(() => {
      pumping = false
      holder ??= waiting.shift()
      const unit = holder?.units.shift()
      if (!holder || !unit) return
      clearTimeout(silence)
      const connection = holder
      if (run(connection, unit) === idle) {
        holder = undefined
        if (connection.units.length > 0) waiting.push(connection)
      } else if (connection.units.length === 0) {
        silence = setTimeout(() => cut(connection), silenceMs)
      }
      pump()
    })
  }

  /** Runs a unit and sends what came: notifications to all, the rest to its connection. Gives the transaction status of ReadyForQuery, if there was one. */
  function run(connection: Connection | undefined, unit: Buffer): number | undefined {
    const bytes = execute(unit)
    const answer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let status: number | undefined
    let from = 0
    for (let at = 0; at < answer.length; ) {
      const end = at + 1 + answer.readUInt32BE(at + 1)
      if (answer[at] === readyForQuery) status = answer[at + 5]
      if (answer[at] === notification) {
        if (at > from) connection?.socket.write(answer.subarray(from, at))
        from = end
        for (const { started, socket } of connections) if (started) socket.write(answer.subarray(at, end))
      }
      at = end
    }
    if (from < answer.length) connection?.socket.write(answer.subarray(from))
    return status
  }

  function cut(connection: Connection): void {
    connection.socket.end(message('E', `SFATAL\0VFATAL\0C25P03\0Mthe transaction was silent for ${silenceMs} ms\0\0`))
    forget(connection)
  }

  function forget(connection: Connection): void {
    if (connection.closed) return
    connection.closed = true
    connections.delete(connection)
    connection.units.length = 0
    const at = waiting.indexOf(connection)
    if (at >= 0) waiting.splice(at, 1)
    if (holder === connection) {
      clearTimeout(silence)
      run(undefined, rollback)
      holder = undefined
      pump()
    }
    // What was written still leaves; a peer that does not take it has a second.
    connection.socket.end()
    setTimeout(() => connection.socket.destroy(), 1_000).unref()
  }

  function start(connection: Connection, packet: Buffer): void {
    const request = packet.readUInt32BE(4)
    if (encryptionRequests.has(request)) return void connection.socket.write('N')
    if (request === cancelRequest || request >>> 16 !== 3) return forget(connection)
    connection.started = true
    const settings = Object.entries(parameters).map(([name, value]) => message('S', `${name}\0${value}\0`))
    connection.socket.write(Buffer.concat([message('R', '\0\0\0\0'), ...settings, message('K', '\0\0\0\0\0\0\0\0'), message('Z', 'I')]))
  }

  return createServer((socket) => {
    const connection: Connection = { socket, units: [], started: false, closed: false }
    connections.add(connection)
    const read = createReader(maxUnitBytes, () => connection.started, (packet) => start(connection, packet), (unit) => {
      if (unit[0] === terminate) return forget(connection)
      connection.units.push(unit)
      if (connection.units.length === 1 && connection !== holder) waiting.push(connection)
      pump()
    })
    socket.on('data', (chunk: Buffer) => connection.closed || read(chunk) || forget(connection))
    socket.on('error', () => forget(connection))
    socket.on('end', () => forget(connection))
    socket.on('close', () => forget(connection))
  })
}

/**
 * Cuts a byte stream, however it was split, into start-up packets and then into units. The returned function says false when the stream is not the
 * protocol, or too large.
 */
function createReader(maxBytes: number, started: () => boolean, onStart: (packet: Buffer) => void, onUnit: (unit: Buffer) => void): (chunk: Buffer) => boolean {
  let chunks: Buffer[] = []
  let size = 0
  /** Nothing can be cut before so many bytes are there: large messages are joined once. */
  let needed = 0
  /** Where the messages end that are whole but do not end a unit. */
  let scanned = 0

  return (chunk) => {
    chunks.push(chunk)
    size += chunk.length
    if (size < needed) return size <= maxBytes
    let data = chunks.length === 1 ? chunk : Buffer.concat(chunks)
    for (;;) {
      const header = started() ? 1 : 0
      needed = scanned + header + 4
      if (data.length < needed) break
      const length = data.readUInt32BE(scanned + header)
      if (length < (header ? 4 : 8) || scanned + length > (header ? maxBytes : 10_000)) return false
      needed = scanned + header + length
      if (data.length < needed) break
      const type = data[scanned]!
      if (header && !unitEnds.has(type) && type !== terminate) {
        scanned = needed
        continue
      }
      // A Terminate after unfinished messages drops them.
      const whole = data.subarray(type === terminate ? scanned : 0, needed)
      data = data.subarray(needed)
      scanned = 0
      if (header) onUnit(whole)
      else onStart(whole)
    }
    chunks = [data]
    size = data.length
    return size <= maxBytes
  }
}

function message(type: string, body = ''): Buffer {
  const frame = Buffer.alloc(5 + Buffer.byteLength(body))
  frame.write(type, 0)
  frame.writeUInt32BE(frame.length - 1, 1)
  frame.write(body, 5)
  return frame
}
