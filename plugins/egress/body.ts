/** The body of an answer as a web stream: decompressed, counted on both sides of that, and read only as fast as its reader reads. */
import { pipeline } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'

/** What `toBody` works with. */
export interface BodyOptions {
  /** The body's one content coding. */
  readonly coding: Coding | null
  readonly maxBytes: number
  readonly signal: AbortSignal
  /** The error of one that is longer. */
  tooLong(): Error
  /** The error of one that broke off. */
  broken(cause: unknown): Error
  /** Called once nothing more is read. */
  end(): void
}

/** A content coding that can be undone. */
export type Coding = 'gzip' | 'deflate' | 'br'

/** The coding of a `Content-Encoding`; null for none, `unknown` for what was not asked for: other ones, or several on top of each other. */
export function codingOf(header: string | undefined): Coding | null | 'unknown' {
  const name = (header ?? '')
    .trim()
    .toLowerCase()
    .replace(/^x-gzip$/, 'gzip')
  if (name === '' || name === 'identity') return null
  return name === 'gzip' || name === 'deflate' || name === 'br' ? name : 'unknown'
}

/** The stream. It fails with the signal's reason when that aborts, whether or not anybody reads. */
export function toBody(source: AsyncIterable<Uint8Array>, { coding, maxBytes, signal, tooLong, broken, end }: BodyOptions): ReadableStream<Uint8Array> {
  const limited = (pieces: AsyncIterable<Uint8Array>) => counted(pieces, maxBytes, tooLong)
  const pieces = coding === null ? limited(source) : limited(decoded(limited(source), coding))
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => signal.addEventListener('abort', () => controller.error(signal.reason), { once: true }),
      async pull(controller) {
        try {
          const { done, value } = await pieces.next()
          if (!done) return controller.enqueue(new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength))
          controller.close()
        } catch (error) {
          controller.error(signal.aborted ? signal.reason : broken(error))
        }
        end()
      },
      cancel: () => end(),
    },
    { highWaterMark: 0 },
  )
}

async function* counted(pieces: AsyncIterable<Uint8Array>, max: number, tooLong: () => Error): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const piece of pieces) {
    size += piece.byteLength
    if (size > max) throw tooLong()
    yield piece
  }
}

async function* decoded(pieces: AsyncGenerator<Uint8Array>, coding: Coding): AsyncGenerator<Uint8Array> {
  const first = await pieces.next()
  // Some say gzip of an empty body, too.
  if (first.done) return
  const decoder = createDecoder(coding, first.value)
  const all = async function* () {
    yield first.value
    yield* pieces
  }
  pipeline(all(), decoder, () => undefined)
  yield* decoder
}

function createDecoder(coding: Coding, first: Uint8Array) {
  if (coding === 'gzip') return createGunzip()
  if (coding === 'br') return createBrotliDecompress()
  // RFC 9110 §8.4.1.2 means the zlib form; some send the bare one.
  return ((first[0] ?? 0) & 0x0f) === 8 ? createInflate() : createInflateRaw()
}
