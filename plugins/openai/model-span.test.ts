import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { findModel, replaceModel } from './model-span.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (body: Uint8Array) => new TextDecoder().decode(body)
const codeOf = (body: string) => {
  try {
    findModel(bytes(body))
    return 'found'
  } catch (error) {
    return (error as { code: string }).code
  }
}

/** Any JSON document as text, with random white space and random escapes in its strings. */
const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 4 }), fc.infiniteStream(fc.nat(7)))
  .map(([value, random]) => write(value, () => random.next().value as number))

function write(value: unknown, random: () => number): string {
  const space = () => ['', '', '', ' ', '\n', '\t', '\r\n', '  '][random()]
  const string = (given: string) =>
    `"${[
      ...JSON.stringify(given)
        .slice(1, -1)
        .matchAll(/\\u[0-9a-fA-F]{4}|\\.|[\s\S]/g),
    ]
      .map(([part]) => (random() === 0 && part.length === 1 ? `\\u${part.charCodeAt(0).toString(16).padStart(4, '0')}` : part))
      .join('')}"`
  if (typeof value === 'string') return string(value)
  if (Array.isArray(value)) return `[${space()}${value.map((entry) => write(entry, random)).join(`${space()},${space()}`)}${space()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${space()}${Object.entries(value)
    .map(([key, entry]) => `${string(key)}${space()}:${space()}${write(entry, random)}`)
    .join(`${space()},${space()}`)}${space()}}`
}

describe('the model of a body', () => {
  test('is the only thing that changes, whatever else the body holds', () => {
    const members = fc.array(fc.tuple(fc.string({ unit: 'binary' }), jsonText), { maxLength: 6 }).map((all) => all.filter(([key]) => key !== 'model'))
    fc.assert(
      fc.property(members, fc.nat(6), fc.string({ minLength: 1 }), fc.string({ minLength: 1, unit: 'binary' }), (others, at, name, next) => {
        const parts = others.map(([key, value]) => `${JSON.stringify(key)}:${value}`)
        parts.splice(at, 0, ` "model"\n: ${JSON.stringify(name)} `)
        const body = `{${parts.join(',')}}`
        const span = findModel(bytes(body))
        const replaced = text(replaceModel(bytes(body), span, next))
        expect(span.model).toBe(name)
        expect(JSON.parse(replaced)).toEqual({ ...JSON.parse(body), model: next.isWellFormed() ? next : JSON.parse(replaced).model })
        const before = bytes(body).subarray(0, span.start)
        const after = bytes(body).subarray(span.end)
        expect(replaced).toBe(text(before) + JSON.stringify(next) + text(after))
      }),
      { numRuns: 1_000 },
    )
  })

  test('is found in exactly the bodies that JSON.parse takes', () => {
    const alphabet = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"model"',
      '"a"',
      ':"x"',
      '1',
      '-',
      '0',
      '.',
      'e',
      'true',
      'nul',
      'null',
      ' ',
      '\n',
      '{"model":"x"',
      '}',
    )
    const mutated = fc.tuple(jsonText, fc.nat(400), fc.constantFrom('', '"', ',', '}', ':', '0', 'x')).map(([json, at, put]) => {
      const body = `{"model":"m","rest":${json}}`
      const place = at % body.length
      return body.slice(0, place) + put + body.slice(place + 1)
    })
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(alphabet, { maxLength: 12 }).map((parts) => parts.join('')),
          mutated,
        ),
        (body) => {
          let parsed: unknown
          try {
            parsed = JSON.parse(body)
          } catch {
            // Wrong escapes inside a string are the upstream's to judge.
            if (!body.includes('\\') && codeOf(body) !== 'validation_failed') expect(codeOf(body)).toBe('invalid_json')
            return
          }
          const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
          expect(codeOf(body) === 'invalid_json').toBe(!isObject)
        },
      ),
      { numRuns: 5_000 },
    )
  })

  test('is not confused by nested models, escapes, unicode or long strings', () => {
    const long = '\\"model\\":'.repeat(500)
    const body = `{"a":{"model":"inner"},"b":["model",{"model":1}],"c":"\\"model\\":\\"x\\"","ü":"\\\\","d":"${long}\\\\","model":"p\\u00e9/x","e":[[[]],{}]}`
    const span = findModel(bytes(body))
    expect(span.model).toBe('pé/x')
    expect(JSON.parse(text(replaceModel(bytes(body), span, 'y')))).toEqual({ ...JSON.parse(body), model: 'y' })
  })

  test('that stands twice is refused, also when one key is written with escapes', () => {
    expect(codeOf('{"model":"a","model":"b"}')).toBe('validation_failed')
    expect(codeOf('{"model":"a","mod\\u0065l":"b"}')).toBe('validation_failed')
    expect(findModel(bytes('{"mod\\u0065l":"b"}')).model).toBe('b')
  })

  test('that is missing, empty or no string is refused', () => {
    for (const body of ['{}', '{"a":1}', '{"model":null}', '{"model":1}', '{"model":["x"]}', '{"model":""}']) expect(codeOf(body)).toBe('validation_failed')
  })

  test('is not looked for in what is no JSON object', () => {
    for (const body of [
      '',
      ' ',
      '[]',
      '"model"',
      'null',
      '1',
      '{',
      '{"model":"x"',
      '{"model":"x"}}',
      '{"model":"x",}',
      '{"model":"x"} x',
      '{"model":"x","a":01}',
      '{"model":"x","a":tru}',
      "{'model':'x'}",
      '\ufeff{"model":"x"}',
    ])
      expect(codeOf(body)).toBe('invalid_json')
  })

  test('is found however deep the rest nests', () => {
    const deep = `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)},"model":"x"}`
    expect(findModel(bytes(deep)).model).toBe('x')
  })
})
