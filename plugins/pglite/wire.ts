/**
 * Serves PostgreSQL's wire protocol (version 3, "Frontend/Backend Protocol") for a database that has ONE session: a connection holds it from a whole unit of
 * messages until ReadyForQuery says idle. Not for the network: it asks for no password.
 */
import { createServer, type Server, type Socket } from 'node:net'

/** What the server runs on. */
export interface WireOptions {
  /** Runs whole frontend messages, gives the backend's bytes. Synchronous: the session is never entered twice. */
  execute(messages: Uint8Array): Uint8Array
  /** Sent to each client at its start (ParameterStatus). */
  parameters: Readonly<Record<string, string>>
  /** ms that the holder of the session may be silent inside a transaction; then it is rolled back and its connection cut. */
  silenceMs: number
  /** Told the reason when the database has ended itself (FATAL, PANIC), e.g. because there is no space for its write-ahead log: it must not be asked any more. */
  died(reason: string): void
}

type Read = (bytes: number) => Promise<Buffer>

const maxUnitBytes = 256 << 20
const cancelRequest = 80877102
const encryptionRequests = [80877103, 80877104]
/** These end a unit: Query, Sync, FunctionCall, Flush, CopyData, CopyDone, CopyFail. */
const unitEnds = 'QSFHdcf'
const rollback = Buffer.concat([message('S'), message('Q', 'rollback\0')])
const gone = new Error('The client is gone')

/** A server, not yet listening. */
export function createWireServer({ execute, parameters, silenceMs, died }: WireOptions): Server {
  const clients = new Set<Socket>()
  let session: Promise<void> = Promise.resolve()

  async function acquire(): Promise<() => void> {
    const before = session
    const { promise, resolve } = Promise.withResolvers<void>()
    session = promise
    await before
    return resolve
  }

  /** Sends notifications to all clients, the rest of the answer to its own. Gives the status in ReadyForQuery, '' without one. */
  function run(messages: Buffer, client?: Socket): string {
    const bytes = execute(messages)
    const answer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let status = ''
    let from = 0
    for (let at = 0, end = 0; at < answer.length; at = end) {
      end = at + 1 + answer.readUInt32BE(at + 1)
      const type = answer.toString('latin1', at, at + 1)
      if (type === 'Z') status = answer.toString('latin1', at + 5, end)
      if (type === 'E' && isDeadly(answer.subarray(at + 5, end))) died(messageOf(answer.subarray(at + 5, end)))
      if (type !== 'A') continue
      if (at > from) client?.write(answer.subarray(from, at))
      for (const other of clients) other.write(answer.subarray(at, end))
      from = end
    }
    if (from < answer.length) client?.write(answer.subarray(from))
    return status
  }

  /** Runs units until the session is idle again; a client that leaves, or is silent too long, is rolled back. */
  async function exchange(client: Socket, first: Buffer, next: () => Promise<Buffer>): Promise<void> {
    const release = await acquire()
    let status = ''
    try {
      status = run(first, client)
      while (status !== 'I') {
        const timer = setTimeout(() => {
          client.end(message('E', `SFATAL\0VFATAL\0C25P03\0Mthe transaction was silent for ${silenceMs} ms\0\0`))
          setTimeout(() => client.destroy(), 50)
        }, silenceMs)
        status = run(await next().finally(() => clearTimeout(timer)), client)
      }
    } finally {
      if (status !== 'I') run(rollback)
      release()
    }
  }

  async function serve(client: Socket): Promise<void> {
    const read = createReader(client)
    await startUp(client, read, parameters)
    clients.add(client)
    const next = () => readUnit(read)
    for (;;) await exchange(client, await next(), next)
  }

  return createServer((client) => {
    serve(client)
      .catch(() => {})
      .finally(() => {
        clients.delete(client)
        client.end(() => client.destroy())
      })
  })
}

/** Reads exactly so many bytes, however they were split on the way. */
function createReader(socket: Socket): Read {
  let chunks: Buffer[] = []
  let size = 0
  let wake = () => {}
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    size += chunk.length
    if (size > 2 * maxUnitBytes) socket.destroy()
    wake()
  })
  for (const event of ['end', 'close', 'error']) socket.on(event, () => wake())
  return async (bytes) => {
    while (size < bytes) {
      if (socket.readableEnded || socket.destroyed) throw gone
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    const joined = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
    chunks = joined.length > bytes ? [joined.subarray(bytes)] : []
    size -= bytes
    return joined.subarray(0, bytes)
  }
}

async function startUp(client: Socket, read: Read, parameters: WireOptions['parameters']): Promise<void> {
  let request: number
  do {
    const length = (await read(4)).readUInt32BE()
    if (length < 8 || length > 10_000) throw gone
    request = (await read(length - 4)).readUInt32BE()
    if (encryptionRequests.includes(request)) client.write('N')
  } while (encryptionRequests.includes(request))
  if (request === cancelRequest || request >>> 16 !== 3) throw gone
  const settings = Object.entries(parameters).map(([name, value]) => message('S', `${name}\0${value}\0`))
  client.write(Buffer.concat([message('R', '\0\0\0\0'), ...settings, message('K', '\0\0\0\0\0\0\0\0'), message('Z', 'I')]))
}

/** A session is claimed for whole units only, so nobody holds it with half a message. */
async function readUnit(read: Read): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let size = 0; ; ) {
    const header = await read(5)
    const type = header.toString('latin1', 0, 1)
    const length = header.readUInt32BE(1)
    size += length
    if (type === 'X' || length < 4 || size > maxUnitBytes) throw gone
    parts.push(header, await read(length - 4))
    if (unitEnds.includes(type)) return Buffer.concat(parts)
  }
}

/** Of the fields of an ErrorResponse: the severity that is not translated. */
function isDeadly(fields: Buffer): boolean {
  return /\0V(?:FATAL|PANIC)\0/.test(fields.toString('latin1'))
}

function messageOf(fields: Buffer): string {
  return /\0M([^\0]*)/.exec(fields.toString())?.[1] ?? 'it ended itself'
}

function message(type: string, body = ''): Buffer {
  const frame = Buffer.alloc(5 + Buffer.byteLength(body))
  frame.write(type)
  frame.writeUInt32BE(frame.length - 1, 1)
  frame.write(body, 5)
  return frame
}
