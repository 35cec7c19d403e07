/** What tells a whole answer from a broken one while its bytes pass: the last frame of a stream, the last bracket of a JSON body, the announced length. */

/** Sees the bytes of one body. */
export interface Watcher {
  /** What may go out now; null = nothing yet. */
  push(bytes: Uint8Array): Uint8Array | null
  /** The body ended by itself. What is still to go out, or null when it is not whole. */
  end(): Uint8Array | null
  /** True when all that matters has passed, so that a break after it harms nobody. */
  readonly isWhole: boolean
}

const nothing = new Uint8Array(0)
const doneLine = new TextEncoder().encode('data:[DONE]')
/** A frame that is not over after so many bytes is passed on as it comes. */
const longestHeld = 1024 * 1024

/**
 * Of an event stream (WHATWG HTML §9.2.6) that is to end with `data: [DONE]`. Frames go out whole: the rest of one that breaks off is kept back, so that an
 * error frame can follow. The bytes that go out are those that came in.
 */
export function createStreamWatcher(): Watcher {
  let held: Uint8Array = nothing
  let isWhole = false
  // The state at the end of what was seen: bytes in this line, how much of `data:[DONE]` it is (-1 = something else), whether a CR came last, and ended a frame.
  let lineLength = 0
  let matched = 0
  let afterReturn = false
  let returnEndedFrame = false

  /** Advances; returns where the last whole frame ends, -1 if none ends here. */
  function scan(bytes: Uint8Array): number {
    let boundary = -1
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number
      if (byte === 0x0a && afterReturn) {
        afterReturn = false
        if (returnEndedFrame) boundary = at + 1
      } else if (byte === 0x0a || byte === 0x0d) {
        if (matched === doneLine.length) isWhole = true
        if (lineLength === 0) boundary = at + 1
        afterReturn = byte === 0x0d
        returnEndedFrame = lineLength === 0
        lineLength = 0
        matched = 0
      } else {
        afterReturn = false
        lineLength++
        // One space may follow the colon.
        if (matched >= 0 && !(byte === 0x20 && lineLength === 6 && matched === 5)) matched = byte === doneLine[matched] ? matched + 1 : -1
      }
    }
    return boundary
  }

  return {
    get isWhole() {
      return isWhole
    },
    push(bytes) {
      const boundary = scan(bytes)
      if (boundary === bytes.length && held.length === 0) return bytes
      if (boundary >= 0) {
        const out = join(held, bytes.subarray(0, boundary))
        held = bytes.slice(boundary)
        return out
      }
      held = join(held, bytes)
      if (held.length <= longestHeld) return null
      const out = held
      held = nothing
      return out
    },
    end() {
      if (matched === doneLine.length) isWhole = true
      return isWhole ? held : null
    },
  }
}

/** Of a JSON body without announced length: whole when its brackets are closed. */
export function createJsonWatcher(): Watcher {
  let depth = 0
  let inString = false
  let escaped = false
  let begun = false
  return {
    get isWhole() {
      return begun && depth === 0 && !inString
    },
    push(bytes) {
      for (const byte of bytes) {
        if (inString) {
          if (escaped) escaped = false
          else if (byte === 0x5c) escaped = true
          else if (byte === 0x22) inString = false
        } else if (byte === 0x22) {
          inString = true
          begun = true
        } else if (byte === 0x7b || byte === 0x5b) {
          depth++
          begun = true
        } else if (byte === 0x7d || byte === 0x5d) depth--
        else if (byte > 0x20) begun = true
      }
      return bytes
    },
    end() {
      return this.isWhole ? nothing : null
    },
  }
}

/** Of a body whose length was announced. */
export function createLengthWatcher(length: number): Watcher {
  let seen = 0
  return {
    get isWhole() {
      return seen >= length
    },
    push(bytes) {
      seen += bytes.length
      return bytes
    },
    end() {
      return this.isWhole ? nothing : null
    },
  }
}

/** Of anything else: its end is its end. */
export const blindWatcher: Watcher = { isWhole: false, push: (bytes) => bytes, end: () => nothing }

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second
  if (second.length === 0) return first
  const out = new Uint8Array(first.length + second.length)
  out.set(first)
  out.set(second, first.length)
  return out
}
