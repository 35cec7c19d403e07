import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { createJsonWatcher, createLengthWatcher, createStreamWatcher, type Watcher } from './watchers.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

/** Feeds the text in the given pieces; what came out, and whether the end was one. */
function feed(watcher: Watcher, text: string, cuts: readonly number[]): { out: string; isWhole: boolean } {
  const all = bytes(text)
  const places = [...new Set(cuts.map((cut) => cut % (all.length + 1)))].sort((a, b) => a - b)
  const decoder = new TextDecoder()
  let out = ''
  for (const [index, from] of [0, ...places].entries()) {
    const piece = watcher.push(all.slice(from, places[index] ?? all.length))
    if (piece) out += decoder.decode(piece, { stream: true })
  }
  const rest = watcher.end()
  if (rest) out += decoder.decode(rest)
  return { out, isWhole: rest !== null }
}

const cuts = fc.array(fc.nat(10_000), { maxLength: 40 })
const lineEnd = fc.constantFrom('\n', '\r\n', '\r')
const frame = fc.oneof(
  fc.constantFrom(
    ': ping',
    'data: {"a":"[DONE]"}',
    'data: {"é":"ü data: [DONE]"}',
    'event: x',
    'data: [DONE] not',
    'data:  [DONE]',
    'xdata: [DONE]',
    'data: [DON',
    'id: 1',
  ),
  fc.string({ unit: 'binary' }).map((text) => `data: ${JSON.stringify(text.replace(/[\ud800-\udfff]/g, ''))}`),
)

describe('an event stream', () => {
  const frames = fc.array(frame, { maxLength: 8 })

  test('that ends with [DONE] goes out as it came, in whatever pieces', () => {
    fc.assert(
      fc.property(frames, lineEnd, fc.boolean(), fc.constantFrom('', ': bye'), cuts, (lines, end, spaced, trailer, places) => {
        const text = [...lines, `data:${spaced ? ' ' : ''}[DONE]`].map((line) => line + end + end).join('') + trailer
        expect(feed(createStreamWatcher(), text, places)).toEqual({ out: text, isWhole: true })
      }),
      { numRuns: 2_000 },
    )
  })

  test('without [DONE] is not whole, and what went out ends with a frame', () => {
    fc.assert(
      fc.property(frames, lineEnd, fc.nat(), cuts, (lines, end, cut, places) => {
        const whole = lines.map((line) => line + end + end).join('')
        const text = whole.slice(0, cut % (whole.length + 1)).replace(/[\ud800-\udbff]$/, '')
        fc.pre(!/data: ?\[DONE\]$/.test(text))
        const { out, isWhole } = feed(createStreamWatcher(), text, places)
        expect(isWhole).toBe(false)
        expect(text.startsWith(out)).toBe(true)
        expect(out === '' || /(\n|\r)(\n|\r)$/.test(out) || /^(\r|\n)+$/.test(out)).toBe(true)
        // Nothing but the rest of one frame is kept back.
        expect(text.slice(out.length).replace(/^\n/, '')).not.toMatch(/\r\n\r\n|\n\n|\r\r/)
      }),
      { numRuns: 2_000 },
    )
  })

  test('whose [DONE] lacks its empty line is whole when it ends', () => {
    for (const tail of ['data: [DONE]', 'data: [DONE]\n', 'data:[DONE]\r'])
      expect(feed(createStreamWatcher(), `data: 1\n\n${tail}`, [3, 12])).toEqual({ out: `data: 1\n\n${tail}`, isWhole: true })
  })

  test('whose frame does not end is passed on before it fills the memory', () => {
    const watcher = createStreamWatcher()
    const piece = bytes('x'.repeat(600_000))
    expect(watcher.push(piece)).toBeNull()
    expect(watcher.push(piece)?.length).toBe(1_200_000)
  })
})

describe('a JSON body without announced length', () => {
  test('is whole exactly when it is all there', () => {
    fc.assert(
      fc.property(fc.oneof(fc.object(), fc.array(fc.jsonValue())), fc.nat(), cuts, (value, cut, places) => {
        const text = JSON.stringify(value)
        expect(feed(createJsonWatcher(), text, places)).toEqual({ out: text, isWhole: true })
        const all = bytes(text)
        const watcher = createJsonWatcher()
        watcher.push(all.slice(0, cut % all.length))
        expect(watcher.end()).toBeNull()
      }),
      { numRuns: 1_000 },
    )
  })
})

test('a body of announced length is whole when so many bytes have passed', () => {
  const watcher = createLengthWatcher(3)
  watcher.push(bytes('ab'))
  expect(watcher.isWhole).toBe(false)
  watcher.push(bytes('c'))
  expect(watcher.end()).not.toBeNull()
})
