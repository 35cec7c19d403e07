/** Server-Sent Events: the one encoder (WHATWG HTML §9.2.6). Streams yield bytes, because strings break on Deno. */

/** One frame. Line breaks in `data` become further `data:` lines; `event` and `id` must not hold any. */
export interface SseFrame {
  readonly event?: string
  readonly id?: string
  /** A string as it stands, anything else as JSON. */
  readonly data?: unknown
  /** ms, for the client's reconnect. */
  readonly retry?: number
  readonly comment?: string
}

const encoder = new TextEncoder()

/** The frame's bytes, with the empty line that ends it. */
export function encodeSse(frame: SseFrame): Uint8Array {
  let text = ''
  if (frame.comment !== undefined) text += `: ${frame.comment}\n`
  if (frame.retry !== undefined) text += `retry: ${frame.retry}\n`
  if (frame.id !== undefined) text += `id: ${frame.id}\n`
  if (frame.event !== undefined) text += `event: ${frame.event}\n`
  if (frame.data !== undefined) {
    const data = typeof frame.data === 'string' ? frame.data : JSON.stringify(frame.data)
    text += `data: ${data.replace(/\r\n?|\n/g, '\ndata: ')}\n`
  }
  return encoder.encode(`${text}\n`)
}

/** Headers of an event stream: not cached, not buffered by proxies. */
export const sseHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
}
