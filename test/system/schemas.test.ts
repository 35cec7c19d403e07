/** Every operation of the OpenAPI document, fed with values of its own schemas, whole and broken: never a 5xx of ours, and every answer is what the document says. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import Ajv2020 from 'ajv/dist/2020.js'
import fc, { type Arbitrary } from 'fast-check'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { arbitraryOf, brokenOf, type Schema } from '../fixtures/schema-arbitrary.ts'

interface Operation {
  readonly method: string
  readonly path: string
  readonly spec: Schema
}

interface Sent {
  readonly path: string
  readonly query: Record<string, unknown>
  readonly body: unknown
}

const runsPerOperation = 25
/** These answer 503 by design when something is down, and their own schema says so. */
const mayBeDown = new Set(['/readyz', '/health/ready'])

/** As one segment. A client would resolve dots before it sends anything. */
const segment = (value: string) => (/^\.{0,2}$/.test(value) ? 'x' : encodeURIComponent(value))

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  let document: Schema
  const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true })
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime })
    document = (await (await gateway.fetch('/openapi.json')).json()) as Schema
    ajv.addSchema({ $id: 'api', ...document })
  }, 60_000)
  afterAll(() => gateway?.stop())

  const operations = (): Operation[] =>
    Object.entries<Schema>(document.paths).flatMap(([path, methods]) => Object.entries<Schema>(methods).map(([method, spec]) => ({ method, path, spec })))

  /** `broken`: the body, or without one a parameter, misses its schema. */
  function requestOf({ path, spec }: Operation, broken: boolean): Arbitrary<Sent> {
    const parameters: Schema[] = spec.parameters ?? []
    const bodySchema = spec.requestBody?.content['application/json']?.schema
    const bend = broken ? brokenOf : arbitraryOf
    const values = (place: string, make: typeof arbitraryOf) =>
      fc.record(
        Object.fromEntries(parameters.filter((entry) => entry.in === place).map((entry) => [entry.name, make(entry.schema ?? {}, document)])),
        place === 'query' ? { requiredKeys: [] } : {},
      )
    return fc
      .record({
        inPath: values('path', arbitraryOf),
        query: values('query', bodySchema ? arbitraryOf : bend),
        body: bodySchema ? bend(bodySchema, document) : fc.constant(undefined),
      })
      .map(({ inPath, query, body }) => ({
        path: path.replace(/\{(\w+)\}/g, (_, name: string) => segment(String((inPath as Record<string, unknown>)[name]))),
        query,
        body,
      }))
  }

  async function check(operation: Operation, { path, query, body }: Sent): Promise<void> {
    const { method, spec } = operation
    const url = new URL(path, gateway.url)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, typeof value === 'string' ? value : JSON.stringify(value))
    const abort = new AbortController()
    const headers: Record<string, string> = { authorization: `Bearer ${gateway.token}` }
    if (body !== undefined) headers['content-type'] = 'application/json'
    const response = await fetch(url, {
      method: method.toUpperCase(),
      headers,
      signal: abort.signal,
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const type = response.headers.get('content-type')?.split(';')[0] ?? ''
    const { status } = response
    try {
      if (status >= 500 && !mayBeDown.has(operation.path)) throw new Error(`${status}: ${await response.text()}`)
      if (type === 'text/event-stream') return
      const text = await response.text()
      // What the kernel refuses before it knows the operation is documented once for all.
      const answer = spec.responses[status] ?? (status >= 400 ? { $ref: `#/components/responses/Error${status === 413 ? 400 : status}` } : undefined)
      if (!answer) throw new Error(`${status} is not documented: ${text.slice(0, 500)}`)
      const { content } = answer.$ref ? (document.components.responses[answer.$ref.split('/').at(-1)] ?? { content: undefined }) : answer
      const schema = content?.[type]?.schema
      if (!content) return
      if (!schema) throw new Error(`${status} with ${type} is not documented`)
      if (type !== 'application/json') return
      const validate = ajv.compile({ ...schema, components: document.components })
      if (!validate(JSON.parse(text))) throw new Error(`${status} does not match its schema: ${ajv.errorsText(validate.errors)}\n${text.slice(0, 1_000)}`)
    } finally {
      abort.abort()
    }
  }

  test.each([
    ['valid', false],
    ['broken', true],
  ] as const)(
    '%s requests to every operation',
    async (_, broken) => {
      const all = operations()
      expect(all.length).toBeGreaterThan(25)
      for (const operation of all) {
        const hasInput = (operation.spec.parameters?.length ?? 0) > 0 || operation.spec.requestBody
        const property = fc.asyncProperty(requestOf(operation, broken), (sent) => check(operation, sent))
        await fc.assert(property, { numRuns: hasInput ? runsPerOperation : 1, endOnFailure: false }).catch((error: Error) => {
          throw new Error(`${operation.method.toUpperCase()} ${operation.path}: ${error.message}`, { cause: error })
        })
      }
      expect((await gateway.fetch('/healthz')).status).toBe(200)
      expect(gateway.stderr).not.toMatch(/\[(ERR|FTL)\]/)
    },
    120_000,
  )
})
