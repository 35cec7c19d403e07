import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { ValidateFunction } from 'ajv'
import Ajv2020 from 'ajv/dist/2020.js'
import { definePlugin, secret, t } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { parse } from 'smol-toml'
import { configJsonSchema } from './schema.ts'

const pager = definePlugin({
  ...{ id: 'pager', version: '1.0.0', api: 1, summary: 'A plugin with a section of its own', setup() {} },
  config: t.Object({
    token: t.Optional(secret({ minLength: 4 })),
    maxRetries: t.Integer({ minimum: 0, maximum: 9, default: 3 }),
    quiet: t.Object({ fromHour: t.Integer({ default: 22 }) }),
  }),
})

describe('the JSON Schema for editors', () => {
  let gateway: TestGateway
  let validate: ValidateFunction
  beforeAll(async () => {
    gateway = await startTestGateway({ plugins: [pager] })
    const { body } = await gateway.json('/api/config/schema')
    validate = new Ajv2020({ strict: true, allErrors: true, formats: { uri: true, 'date-time': true } }).compile(body)
  })
  afterAll(() => gateway.stop())
  const accepts = (text: string) => validate(JSON.parse(JSON.stringify(parse(text))))

  test('is a valid 2020-12 schema that accepts what the gateway accepts', () => {
    expect(
      accepts('#:schema ./portico.schema.json\nplugins = ["./a.ts"]\n[gateway]\nport = 1\nallow_public_bind = true\nrate_limit = { window_ms = 1000 }'),
    ).toBe(true)
    expect(accepts('[pager]\nenabled = false\non_failure = "abort"\ntoken = "env:X"\n[pager.quiet]\n')).toBe(true)
    expect(accepts('[auth_token]\ntokens = []\n[[gateway.tokens]]\nid = "a"\nsecret = "b"')).toBe(true)
  })
  test('knows the other places of a section', () => {
    const log = { id: 'event-log', schema: t.Object({ rows: t.Integer({ default: 1 }) }), aliases: ['bus', 'gateway.maxRows'] }
    const { properties, patternProperties } = configJsonSchema([{ id: 'gateway', schema: t.Object({}), aliases: [] }, log])
    expect(patternProperties).toEqual({ '^(eventLog|event_log)$': { $ref: '#/properties/event-log' }, '^bus$': { $ref: '#/properties/event-log' } })
    expect(properties).toMatchObject({ gateway: { patternProperties: { '^(maxRows|max_rows)$': true } } })
  })
  test('and refuses what it refuses', () => {
    expect(accepts('[gateway]\nprot = 1')).toBe(false)
    expect(accepts('[pager]\nmax_retries = 99')).toBe(false)
    expect(accepts('[nothing]')).toBe(false)
    expect(accepts('[gateway]\nrequire_pairing = true')).toBe(true)
    expect(accepts('[gateway]\nrequire_paring = true')).toBe(false)
  })
})
