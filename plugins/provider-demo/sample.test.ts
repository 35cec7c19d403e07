import { describe, expect, test } from 'bun:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { sampleSchema } from './sample.ts'

const ajv = new Ajv2020({ strict: false, logger: false, formats: { 'date-time': true, email: true, uri: true, uuid: true, date: true } })

/** Schemas as tools have them. */
const { schema } = fc.letrec<{ schema: object; leaf: object }>((tie) => ({
  leaf: fc.oneof(
    fc.constantFrom(
      {},
      { type: 'boolean' },
      { type: 'null' },
      { type: 'string' },
      { type: ['string', 'null'] },
      { const: { a: [1] } },
      { type: 'string', format: 'date-time' },
    ),
    fc
      .record({ type: fc.constant('string'), minLength: fc.nat(30), extra: fc.nat(30) })
      .map(({ extra, ...rest }) => ({ ...rest, maxLength: rest.minLength + extra })),
    fc
      .record({
        type: fc.constantFrom('integer', 'number'),
        minimum: fc.integer({ min: -50, max: 50 }),
        width: fc.integer({ min: 2, max: 90 }),
        exclusive: fc.boolean(),
      })
      .map(({ width, exclusive, minimum, type }) =>
        exclusive ? { type, exclusiveMinimum: minimum, exclusiveMaximum: minimum + width } : { type, minimum, maximum: minimum + width },
      ),
    fc.record({ type: fc.constant('integer'), multipleOf: fc.integer({ min: 1, max: 12 }), minimum: fc.integer({ min: -50, max: 50 }) }),
    fc.array(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
    fc.constantFrom({ type: 'string', pattern: '^[a-z]+$' }, { type: 'string', pattern: '^\\d+$' }, { type: 'string', pattern: '^[A-Z]{4}$' }),
  ),
  schema: fc.oneof(
    { maxDepth: 4, depthIdentifier: 'schema' },
    tie('leaf'),
    fc
      .record({ properties: fc.dictionary(fc.string({ maxLength: 6 }), tie('schema'), { maxKeys: 4 }), strict: fc.boolean() })
      .map(({ properties, strict }) => ({
        type: 'object',
        properties,
        required: Object.keys(properties),
        ...(strict ? { additionalProperties: false } : {}),
      })),
    fc.record({ items: tie('schema'), minItems: fc.nat(3) }).map((rest) => ({ type: 'array', ...rest, maxItems: rest.minItems + 2 })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((prefixItems) => ({ type: 'array', prefixItems, items: false, minItems: prefixItems.length })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ),
}))

describe('arguments', () => {
  test('fit the schema they are made from, whatever the prompt', () => {
    fc.assert(
      fc.property(schema, fc.string({ unit: 'binary', maxLength: 40 }), (tool, prompt) => {
        const value = JSON.parse(JSON.stringify(sampleSchema(tool, prompt)))
        const fits = ajv.validate(tool, value)
        if (!fits) throw new Error(`${JSON.stringify(value)} against ${JSON.stringify(tool)}: ${ajv.errorsText()}`)
      }),
      { numRuns: 500 },
    )
  })

  test('take numbers, quoted words and choices from the prompt', () => {
    const tool = {
      type: 'object',
      properties: {
        a: { type: 'integer' },
        b: { type: 'number' },
        unit: { enum: ['celsius', 'fahrenheit'] },
        city: { type: 'string' },
        note: { type: 'string' },
      },
      required: ['a', 'b', 'unit', 'city'],
    }
    const prompt = 'What is 2 and 3.5 in Fahrenheit at "New York"?'
    expect(sampleSchema(tool, prompt)).toEqual({ a: 2, b: 3.5, unit: 'fahrenheit', city: 'New York', note: prompt })
  })

  test('follow references, and end where a schema contains itself', () => {
    const node = {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1 },
        child: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
        all: { type: 'array', items: { $ref: '#/$defs/node' } },
      },
      required: ['name', 'child', 'all'],
      additionalProperties: false,
    }
    const tool = { $ref: '#/$defs/node', $defs: { node } }
    expect(ajv.validate(tool, JSON.parse(JSON.stringify(sampleSchema(tool, 'go'))))).toBe(true)
    expect(() => sampleSchema({ $ref: '#' }, 'x')).not.toThrow()
    expect(() => sampleSchema({ $ref: '#/a/b' }, 'x')).not.toThrow()
  })

  test('are something even for what is no schema', () => {
    for (const odd of [null, undefined, 7, 'x', [], true, false, { type: 7 }, { items: null }, { properties: { a: null }, required: 'a' }])
      expect(() => sampleSchema(odd, 'x')).not.toThrow()
    expect(sampleSchema({ type: 'object', properties: { __proto__: { type: 'string' } } }, 'x')).toBeInstanceOf(Object)
  })
})
