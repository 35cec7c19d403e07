import { expect, test } from 'bun:test'
import { anonymous, GatewayError, type Logger, t } from 'portico'
import { defineTool, isToolSuspended, type Tool, type ToolContext, type ToolOutput, ToolSuspended } from './contract.ts'
import { createRegistry } from './registry.ts'

const quiet = { debug() {}, info() {}, warn() {} }
const toolOf = (run: (input: { n: number }, ctx: ToolContext) => ToolOutput | Promise<ToolOutput>, more: Partial<Tool> = {}): Tool => ({
  ...defineTool({
    ...{ name: 'try', description: 'Tries', input: t.Object({ n: t.Integer({ minimum: 1 }) }), risk: 'safe', idempotent: true, timeout: 5_000 },
    run,
  }),
  ...more,
})
const setUp = (...items: Tool[]) => {
  const errors: unknown[] = []
  const log: Logger = { ...quiet, error: (message, properties) => void errors.push({ message, ...properties }) }
  return { registry: createRegistry({ items: () => items, log, maxOutput: 1_000, risk: { barred: 'forbidden' } }), errors }
}
const contextOf = (more: Partial<ToolContext> = {}): ToolContext => ({
  ...{ principal: anonymous, runId: 'run_1', callId: 'call_1', signal: new AbortController().signal, log: { ...quiet, error() {} } },
  ...{ workspace: undefined as never, progress() {}, ask: async () => 'yes', waitFor: async () => undefined, sample: async () => 'sampled' },
  ...more,
})
const call = (run: Parameters<typeof toolOf>[0], more: Partial<Tool> = {}, ctx = contextOf()) =>
  setUp(toolOf(run, more)).registry.call(more.name ?? 'try', { n: 1 }, ctx)
const textOf = ({ parts }: { parts: readonly { type: string; text?: string }[] }) => parts.map(({ text }) => text).join('\n')

test('a tool is called by its name or its wire name, with an input that is checked', async () => {
  const { registry } = setUp(toolOf(({ n }) => `n is ${n}`, { name: 'server/try it' }))
  expect(registry.list()).toMatchObject([{ name: 'server/try it', wireName: 'x--server-2f-try-20-it', input: { type: 'object', required: ['n'] } }])
  for (const name of ['server/try it', 'x--server-2f-try-20-it'])
    expect(await registry.call(name, { n: 1 }, contextOf())).toEqual({ isError: false, parts: [{ type: 'text', text: 'n is 1' }] })
  for (const input of [{}, { n: 0 }, { n: 'x' }, { n: 1, more: 2 }, null, 'text', [1]])
    expect(await registry.call('server/try it', input, contextOf())).toMatchObject({ isError: true, code: 'validation_failed' })
  expect(textOf(await registry.call('server/try it', { n: 1, wrong: 2 }, contextOf()))).toContain('wrong')
  const missing = await registry.call('server/tri it', { n: 1 }, contextOf())
  expect([missing.code, textOf(missing)]).toEqual(['not_found', expect.stringContaining('did you mean server/try it?')])
})

test('plain JSON Schema of elsewhere is taken, also of older drafts and with references', async () => {
  const input = {
    ...{ $schema: 'http://json-schema.org/draft-07/schema#', $id: 'same', type: 'object', properties: { at: { $ref: '#/definitions/at' } }, required: ['at'] },
    definitions: { at: { type: 'string', format: 'made-up', pattern: '^a' } },
  }
  const { registry } = setUp(
    toolOf(() => 'one', { name: 'one', input }),
    toolOf(() => 'two', { name: 'two', input }),
  )
  for (const name of ['one', 'two']) {
    expect((await registry.call(name, { at: 'abc' }, contextOf())).isError).toBe(false)
    expect((await registry.call(name, { at: 'bc' }, contextOf())).code).toBe('validation_failed')
  }
})

test('two of one name: the first stays, the log says so; what is no tool is not offered', () => {
  const broken = [{ name: '' }, { description: '' }, { risk: 'mild' as never }, { timeout: 0 }, { input: t.String() }].map((part) => toolOf(() => 'x', part))
  const { registry, errors } = setUp(
    toolOf(() => 'a'),
    toolOf(() => 'b', { description: 'Another' }),
    ...broken,
    null as never,
  )
  expect(registry.list().map(({ description }) => description)).toEqual(['Tries'])
  expect(errors).toHaveLength(7)
  expect(errors[0]).toMatchObject({ tool: 'try', why: expect.stringContaining('another of that name') })
  registry.list()
  expect(errors).toHaveLength(7)
})

test('a forbidden one is never called, also when only the operator says so', async () => {
  let calls = 0
  for (const more of [{ risk: 'forbidden' as const }, { name: 'barred' }])
    expect(await call(() => `${++calls}`, more)).toMatchObject({ isError: true, code: 'forbidden' })
  expect(calls).toBe(0)
})

test('one that never returns is given up at its time, and hears of it', async () => {
  let heard: unknown
  const result = await call(
    (_, { signal }) => {
      signal.addEventListener('abort', () => {
        heard = signal.reason
      })
      return new Promise<string>(() => {})
    },
    { timeout: 30 },
  )
  expect(result).toMatchObject({ isError: true, code: 'deadline_exceeded' })
  expect(heard).toMatchObject({ code: 'deadline_exceeded' })
})

test('a cancelled run ends the call at once with its reason, whatever the tool does', async () => {
  const stop = new AbortController()
  const reason = new Error('cancelled')
  let began = () => {}
  const beginning = new Promise<void>((resolve) => {
    began = resolve
  })
  const result = call(
    () => {
      began()
      return new Promise<string>(() => {})
    },
    {},
    contextOf({ signal: stop.signal }),
  )
  await beginning
  const from = performance.now()
  stop.abort(reason)
  await expect(result).rejects.toBe(reason)
  expect(performance.now() - from).toBeLessThan(200)
  await expect(call(() => 'x', {}, contextOf({ signal: stop.signal }))).rejects.toBe(reason)
})

test('what a tool says of its failure reaches the model; what it did not mean to say does not', async () => {
  const said = await call(() => {
    throw new GatewayError('not_found', 'There is no such page.')
  })
  expect(said).toEqual({ isError: true, code: 'not_found', parts: [{ type: 'text', text: 'not_found: There is no such page.' }] })
  const { registry, errors } = setUp(
    toolOf(async () => {
      throw new Error('secret of /etc')
    }),
  )
  const hidden = await registry.call('try', { n: 1 }, contextOf())
  expect(hidden.code).toBe('internal_error')
  expect(JSON.stringify(hidden)).not.toContain('secret')
  expect(errors).toMatchObject([{ message: 'A tool failed', tool: 'try', runId: 'run_1', callId: 'call_1', error: { message: 'secret of /etc' } }])
  for (const nonsense of [undefined, 7, [{ type: 'smell' }], [null], { text: 'x' }])
    expect(await call(() => nonsense as never)).toMatchObject({ isError: true, code: 'internal_error' })
})

test('a question that nobody has answered ends the call, also of a tool that catches everything', async () => {
  const question = new ToolSuspended('Sure?', ['yes', 'no'])
  const unanswered = contextOf({ ask: () => Promise.reject(question) })
  const seen: unknown[] = []
  const result = call(
    async (_, { ask, sample, signal }) => {
      try {
        await ask('Sure?')
      } catch (error) {
        seen.push((error as Error).name, signal.aborted)
        await sample({ prompt: 'x' }).catch((failure) => seen.push(isToolSuspended(failure)))
      }
      return 'went on'
    },
    {},
    unanswered,
  )
  await expect(result).rejects.toBe(question)
  expect(seen).toEqual(['AbortError', true, true])
  expect(await call(async (_, { ask }) => ask('Sure?'))).toMatchObject({ parts: [{ text: 'yes' }] })
})

test('structured output is given as it is, as text too, and checked', async () => {
  const output = t.Object({ sum: t.Integer() })
  expect(await call(() => ({ structured: { sum: 3 } }), { output })).toEqual({
    ...{ isError: false, structured: { sum: 3 }, parts: [{ type: 'text', text: '{"sum":3}' }] },
  })
  expect(await call(() => ({ structured: { sum: 'x' } }), { output })).toMatchObject({ isError: true, code: 'internal_error' })
  expect(await call(() => ({ structured: 1n as never }))).toMatchObject({ isError: false, parts: [{ text: expect.stringContaining('left out') }] })
})

test('100 MB of output are cut, said so, and not kept', async () => {
  const huge = () => 'ab😀'.repeat(25_000_000)
  const length = huge().length
  const from = performance.now()
  const text = await call(() => huge())
  expect(textOf(text)).toHaveLength(1_000 + 1 + (text.parts[1] as { text: string }).text.length)
  expect(textOf(text)).toContain(`${length - 1_000} of ${length} characters`)
  const parts = await call(() => [
    { type: 'text', text: 'first' },
    { type: 'image', data: huge(), mediaType: 'image/png' },
    { type: 'resource', uri: 'file:x', text: huge() },
  ])
  expect(parts.parts.map(({ type }) => type)).toEqual(['text', 'resource', 'text'])
  expect(textOf(parts)).toContain('image of')
  const object = await call(() => ({ structured: { list: Array.from({ length: 100 }, huge) } }))
  expect(object.structured).toBeUndefined()
  expect(textOf(object)).toContain('left out')
  const many = await call(() => Array.from({ length: 1_000_000 }, () => ({ type: 'text', text: '' }) as const))
  expect(many.parts).toHaveLength(1_001)
  const results = [text, parts, object, many]
  expect(performance.now() - from).toBeLessThan(5_000)
  expect(JSON.stringify(results).length).toBeLessThan(100_000)
})
