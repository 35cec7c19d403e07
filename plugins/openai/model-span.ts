/** Finds the value of the top-level `model` in a JSON body without parsing the rest into objects, so that it alone can be replaced. */
import { GatewayError } from 'portico'

/** Where the value stands, its quotes included, and what it says. */
export interface ModelSpan {
  readonly start: number
  readonly end: number
  readonly model: string
}

const quote = 0x22
const backslash = 0x5c
const openObject = 0x7b
const closeObject = 0x7d
const openArray = 0x5b
const closeArray = 0x5d
const comma = 0x2c
const colon = 0x3a
const minus = 0x2d
const shortString = 64

const decoder = new TextDecoder()
const encoder = new TextEncoder()
const words = { true: encoder.encode('true'), false: encoder.encode('false'), null: encoder.encode('null') }

/**
 * RFC 8259, but for the insides of strings, which are the upstream's to judge. Throws `invalid_json` when the body is no JSON object, `validation_failed` when
 * `model` is missing, stands there twice (escapes in the key seen through), or is no string that is not empty.
 */
export function findModel(body: Uint8Array): ModelSpan {
  let at = skipSpace(body, 0)
  if (body[at] !== openObject) throw at >= body.length ? invalid('The body is empty; expected a JSON object.') : invalid('The body is not a JSON object.')
  let found: ModelSpan | undefined
  at = skipSpace(body, at + 1)
  if (body[at] === closeObject) at++
  else {
    for (;;) {
      const keyStart = at
      const keyEnd = stringEnd(body, at)
      const start = afterColon(body, keyEnd)
      const end = valueEnd(body, start)
      if (isModelKey(body, keyStart, keyEnd)) {
        if (found) throw wrong('"model" stands twice in the body; leave one out.')
        found = { start, end, model: modelOf(body, start, end) }
      }
      at = skipSpace(body, end)
      if (body[at] === closeObject) break
      if (body[at] !== comma) throw malformed(at)
      at = skipSpace(body, at + 1)
    }
    at++
  }
  at = skipSpace(body, at)
  if (at < body.length) throw malformed(at)
  if (!found) throw wrong('"model" is missing. GET /v1/models lists what there is.')
  return found
}

/** The body with another model; every other byte as it was. */
export function replaceModel(body: Uint8Array, { start, end }: ModelSpan, model: string): Uint8Array {
  const value = encoder.encode(JSON.stringify(model))
  const out = new Uint8Array(body.length - (end - start) + value.length)
  out.set(body.subarray(0, start))
  out.set(value, start)
  out.set(body.subarray(end), start + value.length)
  return out
}

function modelOf(body: Uint8Array, start: number, end: number): string {
  if (body[start] !== quote) throw wrong('"model" is not a string.')
  const model = decodeString(body, start, end)
  if (model === '') throw wrong('"model" is empty.')
  return model
}

function isModelKey(body: Uint8Array, start: number, end: number): boolean {
  if (end - start === 7)
    return body[start + 1] === 0x6d && body[start + 2] === 0x6f && body[start + 3] === 0x64 && body[start + 4] === 0x65 && body[start + 5] === 0x6c
  if (end - start > 32 || !body.subarray(start, end).includes(backslash)) return false
  return decodeString(body, start, end) === 'model'
}

function decodeString(body: Uint8Array, start: number, end: number): string {
  try {
    return JSON.parse(decoder.decode(body.subarray(start, end)))
  } catch (error) {
    throw malformed(start, error)
  }
}

/** Behind a value of any kind. No recursion: a body may nest as deep as it is long. */
function valueEnd(body: Uint8Array, from: number): number {
  const closers: number[] = []
  let at = from
  for (;;) {
    const first = body[at]
    if (first === openObject || first === openArray) {
      const closer = first === openObject ? closeObject : closeArray
      at = skipSpace(body, at + 1)
      if (body[at] === closer) at++
      else {
        closers.push(closer)
        if (closer === closeObject) at = afterColon(body, stringEnd(body, at))
        continue
      }
    } else at = first === quote ? stringEnd(body, at) : scalarEnd(body, at)
    for (;;) {
      const closer = closers[closers.length - 1]
      if (closer === undefined) return at
      at = skipSpace(body, at)
      if (body[at] === comma) {
        at = skipSpace(body, at + 1)
        if (closer === closeObject) at = afterColon(body, stringEnd(body, at))
        break
      }
      if (body[at] !== closer) throw malformed(at)
      closers.pop()
      at++
    }
  }
}

function afterColon(body: Uint8Array, from: number): number {
  const at = skipSpace(body, from)
  if (body[at] !== colon) throw malformed(at)
  return skipSpace(body, at + 1)
}

/** Behind the closing quote. Long strings (images) are searched natively. */
function stringEnd(body: Uint8Array, start: number): number {
  if (body[start] !== quote) throw malformed(start)
  let at = start + 1
  for (;;) {
    for (const near = Math.min(body.length, at + shortString); at < near; at++) {
      const byte = body[at] as number
      if (byte === quote) return at + 1
      if (byte === backslash) at++
      else if (byte < 0x20) throw malformed(at)
    }
    if (at >= body.length) throw malformed(body.length)
    const next = body.indexOf(quote, at)
    if (next < 0) throw malformed(body.length)
    let slashes = 0
    while (next - 1 - slashes >= at && body[next - 1 - slashes] === backslash) slashes++
    if (slashes % 2 === 0) return next + 1
    at = next + 1
  }
}

function scalarEnd(body: Uint8Array, start: number): number {
  const first = body[start]
  if (first === 0x74) return wordEnd(body, start, words.true)
  if (first === 0x66) return wordEnd(body, start, words.false)
  if (first === 0x6e) return wordEnd(body, start, words.null)
  let at = first === minus ? start + 1 : start
  if (body[at] === 0x30) at++
  else at = digitsEnd(body, at)
  if (body[at] === 0x2e) at = digitsEnd(body, at + 1)
  if (body[at] === 0x65 || body[at] === 0x45) {
    at++
    if (body[at] === minus || body[at] === 0x2b) at++
    at = digitsEnd(body, at)
  }
  return at
}

function wordEnd(body: Uint8Array, start: number, word: Uint8Array): number {
  for (let index = 1; index < word.length; index++) if (body[start + index] !== word[index]) throw malformed(start)
  return start + word.length
}

/** Behind at least one digit. */
function digitsEnd(body: Uint8Array, start: number): number {
  let at = start
  for (let byte = body[at]; byte !== undefined && byte >= 0x30 && byte <= 0x39; byte = body[at]) at++
  if (at === start) throw malformed(start)
  return at
}

function skipSpace(body: Uint8Array, from: number): number {
  let at = from
  while (at < body.length && isSpace(body[at] as number)) at++
  return at
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function malformed(at: number, cause?: unknown): GatewayError {
  return invalid(`The body is not valid JSON, at byte ${at}.`, cause)
}

function invalid(message: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_json', message, { cause })
}

function wrong(message: string): GatewayError {
  return new GatewayError('validation_failed', message, { param: 'model' })
}
