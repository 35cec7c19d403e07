import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { definePlugin, type Principal, t } from 'portico'
import { type Approvals, approvals as approvalsRef } from 'portico/plugins/approvals'
import { createScriptedProvider } from 'portico/plugins/models/testing'
import { defineTool, tools } from 'portico/plugins/tools'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { databases } from '../../test/fixtures/stores.ts'
import { type Run, type Runs, type RunUpdate, runs as runsRef } from './contract.ts'

const ann: Principal = { id: 'ann', kind: 'user', scopes: ['rpc', 'approve'], groups: [], via: 'test:1' }
let gateway: TestGateway
let runs: Runs
let approvals: Approvals
const effects: string[] = []

const driver = definePlugin({
  id: 'driver',
  version: '0.0.0',
  api: 1,
  summary: 'Hands the services to the test',
  requires: { runs: runsRef, approvals: approvalsRef },
  adds: [tools],
  setup(ctx) {
    runs = ctx.services.runs
    approvals = ctx.services.approvals
    const input = t.Object({ text: t.String() })
    ctx.add(
      tools,
      defineTool({
        name: 'note',
        description: 'Notes it',
        input,
        risk: 'safe',
        idempotent: false,
        timeout: 5_000,
        run: ({ text }) => {
          effects.push(text)
          return `noted ${text}`
        },
      }),
    )
    ctx.add(
      tools,
      defineTool({
        name: 'gated',
        description: 'Gated',
        input,
        risk: 'gated',
        idempotent: false,
        timeout: 5_000,
        run: ({ text }) => {
          effects.push(text)
          return `did ${text}`
        },
      }),
    )
    ctx.add(
      tools,
      defineTool({
        name: 'asks',
        description: 'Asks',
        input,
        risk: 'safe',
        idempotent: false,
        timeout: 5_000,
        async run({ text }, ctx) {
          const answer = await ctx.ask(`${text}?`)
          effects.push(answer)
          return `said ${answer}`
        },
      }),
    )
    const image = { type: 'image' as const, mediaType: 'image/png', data: 'AAAA' }
    ctx.add(
      tools,
      defineTool({
        ...{ name: 'looks', description: 'Looks', input, risk: 'safe', idempotent: true, timeout: 5_000 },
        run: () => [{ type: 'text' as const, text: 'seen' }, image],
      }),
    )
    ctx.add(
      tools,
      defineTool({ name: 'hangs', description: 'Hangs', input, risk: 'safe', idempotent: true, timeout: 60_000, run: () => new Promise<string>(() => {}) }),
    )
  },
})

let postgres: TestPostgres | undefined
describe.each(databases)('on %s', (database) => {
  const provider = createScriptedProvider({ otherwise: { text: 'one two three', usage: { promptTokens: 7, completionTokens: 3 } } })
  beforeAll(() => {
    effects.length = 0
  })
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
    gateway = await startTestGateway({
      databaseUrl: await postgres?.newDatabase(),
      plugins: [provider.plugin, driver],
      config: '[runs]\nmodel = "scripted/model"\ntools = ["*"]\nmaxSteps = 4\n',
    })
  }, 60_000)
  afterAll(async () => {
    await gateway.stop()
    await postgres?.stop()
  })

  async function follow(id: string, after?: string): Promise<RunUpdate[]> {
    const all: RunUpdate[] = []
    for await (const update of runs.watch(id, ann, { signal: AbortSignal.timeout(15_000), after })) all.push(update)
    return all
  }
  const end = async (id: string): Promise<Run> => ((await follow(id)).at(-1) as { run: Run }).run
  const submit = (text: string, more: object = {}) => runs.submit({ principal: ann, input: { text }, ...more })

  describe('a run', () => {
    test('is begun at once where there is room, answered, and watched word by word', async () => {
      const run = await submit('hello')
      expect(run.state).toBe('running')
      const updates = await follow(run.id)
      expect(updates.filter(({ type }) => type === 'entry').map((update) => (update as any).entry.type)).toEqual([
        'queued',
        'started',
        'model_call',
        'completed',
      ])
      expect(
        updates
          .filter(({ type }) => type === 'delta')
          .map((update) => (update as any).text)
          .join(''),
      ).toBe('one two three')
      const done = (updates.at(-1) as any).run as Run
      expect(done).toMatchObject({ state: 'completed', result: 'one two three', finishReason: 'stop', usage: { inputTokens: 7, outputTokens: 3 }, steps: 1 })
    })
    test('calls tools and goes on', async () => {
      provider.push({ toolCalls: [{ name: 'note', arguments: { text: 'a' } }] }, { text: 'done' })
      const run = await end((await submit('note a')).id)
      expect([run.state, run.result, effects.splice(0)]).toEqual(['completed', 'done', ['a']])
      const messages = (provider.calls.at(-1) as any).body.messages
      expect(messages.map(({ role }: any) => role)).toEqual(['system', 'user', 'assistant', 'tool'])
      expect(messages.at(-1).content).toContain('noted a')
    })
    test('shows the model the images of a tool as images, after the tool’s answer and marked like it', async () => {
      provider.push({ toolCalls: [{ name: 'looks', arguments: { text: 'out' } }] }, { text: 'a dot' })
      expect((await end((await submit('look')).id)).result).toBe('a dot')
      const messages = (provider.calls.at(-1) as any).body.messages
      expect(messages.map(({ role }: any) => role)).toEqual(['system', 'user', 'assistant', 'tool', 'user'])
      expect(messages[3].content).toBe('<output of="looks" trust="none">\nseen\n[image image/png]\n</output>')
      expect(messages[4].content).toEqual([
        { type: 'text', text: '<output of="looks" trust="none">' },
        { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } },
        { type: 'text', text: '</output>' },
      ])
    })
    test('waits for an approval, and goes on with it', async () => {
      provider.push({ toolCalls: [{ name: 'gated', arguments: { text: 'g' } }] }, { text: 'fine' })
      const { id } = await submit('do g')
      await gateway.events.waitFor('run:awaiting_approval', ({ subject }) => subject === id)
      expect([effects.length, (await runs.get(id, ann)).state]).toEqual([0, 'awaiting_approval'])
      const [approval] = await approvals.ofRun(id)
      await approvals.decide(approval!.id, { decision: 'approve', via: 'test' }, ann)
      expect((await end(id)).result).toBe('fine')
      expect(effects.splice(0)).toEqual(['g'])
    })
    test('asks a person', async () => {
      provider.push({ toolCalls: [{ name: 'asks', arguments: { text: 'Which' } }] }, { text: 'good' })
      const { id } = await submit('ask')
      await gateway.events.waitFor('run:awaiting_approval', ({ subject }) => subject === id)
      const [approval] = await approvals.ofRun(id)
      await approvals.decide(approval!.id, { decision: 'approve', answer: 'blue', via: 'test' }, ann)
      expect((await end(id)).result).toBe('good')
      expect(effects.splice(0)).toEqual(['blue'])
    })
    test('is cancelled while a tool hangs', async () => {
      provider.push({ toolCalls: [{ name: 'hangs', arguments: { text: 'x' } }] })
      const { id } = await submit('hang')
      await gateway.events.waitFor('run:tool_call', ({ subject }) => subject === id)
      expect(await runs.cancel(id, ann)).toEqual([id])
      expect((await end(id)).state).toBe('cancelled')
    })
    test('of somebody who waits is cancelled when he leaves', async () => {
      provider.push({ text: 'never ends '.repeat(10_000), frameDelayMs: 5 })
      const leaving = new AbortController()
      const run = await submit('x', { interactive: { signal: leaving.signal } })
      expect(run.state).toBe('running')
      for await (const update of runs.watch(run.id, ann, { signal: AbortSignal.timeout(5_000) })) {
        if (update.type === 'delta') leaving.abort()
        if (update.type === 'end') expect(update.run.state).toBe('cancelled')
      }
      expect((await runs.get(run.id, ann)).result).toStartWith('never')
    })
    test('that calls tools for ever is stopped by name', async () => {
      for (let n = 0; n < 5; n++) provider.push({ toolCalls: [{ name: 'note', arguments: { text: `${n}` } }] })
      const run = await end((await submit('for ever')).id)
      expect([run.state, run.error?.code, effects.splice(0)]).toEqual(['failed', 'max_steps', ['0', '1', '2', '3']])
    })
  })
})
