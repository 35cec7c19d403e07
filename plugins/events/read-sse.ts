/** Reads Server-Sent Events (WHATWG HTML §9.2.6) from a byte stream: for commands, and for answers of model servers. */

/** One dispatched frame, or a comment's id. */
export interface ReadFrame {
  readonly id?: string
  readonly event?: string
  readonly data: string
}

const longest = 16_777_216

/** Yields each frame; ends with the stream. A frame of more than 16 MB is an error. */
export async function* readSse(body: ReadableStream<Uint8Array>): AsyncGenerator<ReadFrame> {
  const decoder = new TextDecoder()
  let buffer = ''
  for await (const chunk of body) {
    buffer += decoder.decode(chunk, { stream: true })
    // A CR at the end may be half of a CRLF.
    const ready = buffer.endsWith('\r') ? buffer.slice(0, -1) : buffer
    const lines = ready.replace(/\r\n?/g, '\n')
    const end = lines.lastIndexOf('\n\n')
    if (end < 0) {
      if (buffer.length > longest) throw new Error('A frame of more than 16 MB')
      continue
    }
    buffer = lines.slice(end + 2) + buffer.slice(ready.length)
    for (const block of lines.slice(0, end).split('\n\n')) yield toFrame(block)
  }
}

function toFrame(block: string): ReadFrame {
  const data: string[] = []
  const frame: { id?: string; event?: string } = {}
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':')
    if (colon === 0) continue
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') data.push(value)
    else if (field === 'event') frame.event = value
    else if (field === 'id') frame.id = value
  }
  return { ...frame, data: data.join('\n') }
}
