import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { createScriptedProvider } from 'portico/plugins/models/testing'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { databases } from '../../test/fixtures/stores.ts'
import { until } from '../../test/fixtures/until.ts'

const provider = createScriptedProvider({ otherwise: { text: 'done' } })
const config = `
[runs]
model = "scripted/model"
maxSteps = 6
[agents.list.lead]
description = "Plans"
instructions = "You lead."
subAgents = ["clerk", "asker", "lead"]
[agents.list.clerk]
description = "Keeps notes"
instructions = "You keep notes."
temperature = 0.5
tools = ["current_time"]
[agents.list.asker]
tools = ["ask_user"]
`
describe.each(databases)('on %s', (database) => {
  let gateway: TestGateway
  let postgres: TestPostgres | undefined
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
    gateway = await startTestGateway({ plugins: [provider.plugin], config, configFile: true, databaseUrl: await postgres?.newDatabase() })
  }, 60_000)
  afterAll(async () => {
    await gateway.stop()
    await postgres?.stop()
  })
  beforeEach(() => gateway.events.clear())

  const call = (agent: string, task: string) => ({ toolCalls: [{ name: 'call_agent', arguments: { agent, task } }] })
  const submit = async (body: object): Promise<string> => (await gateway.json('/v1/runs', { method: 'POST', body })).body.run_id
  const get = async (id: string) => (await gateway.json(`/v1/runs/${id}`)).body
  const ended = async (id: string) => {
    await (await gateway.fetch(`/v1/runs/${id}/stream`)).text()
    // Events come in one order: what happened before the end was told before it.
    await until(() => gateway.events.all.some(({ type, subject }) => subject === id && /^run:(completed|failed|cancelled|rejected)$/.test(type)))
    return get(id)
  }
  const types = () => gateway.events.all.map(({ type }) => type).filter((type) => type.startsWith('session:sub_agent'))
  const lastBody = () =>
    provider.calls.at(-1)?.body as { messages: { role: string; content: string }[]; temperature?: number; tools?: { function: { name: string } }[] }

  describe('an agent of the config', () => {
    test('is listed, with `default` beside it', async () => {
      const { agents } = (await gateway.json('/api/agents')).body
      expect(agents.map(({ id, source }: Record<string, string>) => [id, source])).toEqual([
        ['asker', 'config'],
        ['clerk', 'config'],
        ['default', 'config'],
        ['lead', 'config'],
      ])
    })

    test('runs with its own instructions, temperature and tools', async () => {
      expect(await ended(await submit({ message: 'note it', agent: 'clerk' }))).toMatchObject({ status: 'completed', agent_id: 'clerk', result: 'done' })
      const { messages, temperature, tools } = lastBody()
      expect(messages[0]?.content).toStartWith('You keep notes.')
      expect([temperature, tools?.map(({ function: { name } }) => name)]).toEqual([0.5, ['current_time']])
    })

    test('is changed in the config, not by the API', async () => {
      const { status, body } = await gateway.json('/api/agents/clerk', { method: 'PATCH', body: { description: 'x' } })
      expect([status, body.error.code]).toEqual([409, 'conflict'])
      expect(body.error.message).toContain('[agents.list.clerk]')
    })

    test('that there is not is a 404 that names the nearest', async () => {
      const { status, body } = await gateway.json('/api/agents/clerc')
      expect([status, body.error.message]).toEqual([404, expect.stringContaining('Did you mean "clerk"?')])
      expect((await gateway.json('/v1/runs', { method: 'POST', body: { message: 'x', agent: 'nobody' } })).status).toBe(404)
    })
  })

  describe('an agent of the API', () => {
    test('is made, changed, run and deleted; each is an event', async () => {
      const made = await gateway.json('/api/agents', { method: 'POST', body: { id: 'poet', instructions: 'Rhyme.', tools: ['current_time'] } })
      expect([made.status, made.body]).toEqual([
        201,
        { id: 'poet', source: 'api', description: '', instructions: 'Rhyme.', fallbacks: [], tools: ['current_time'], subAgents: [] },
      ])
      expect((await gateway.json('/api/agents', { method: 'POST', body: { id: 'poet' } })).status).toBe(409)
      const run = await submit({ message: 'x', agent: 'poet' })
      const changed = await gateway.json('/api/agents/poet', { method: 'PATCH', body: { instructions: 'In prose.' } })
      expect(changed.body).toMatchObject({ instructions: 'In prose.', tools: ['current_time'] })
      expect((await ended(run)).agent_id).toBe('poet')
      expect(lastBody().messages[0]?.content).toStartWith('Rhyme.')
      expect((await gateway.json('/api/agents/poet', { method: 'DELETE' })).status).toBe(200)
      expect((await gateway.json('/api/agents/poet')).status).toBe(404)
      await gateway.events.waitFor('agent:hot_removed')
      expect(gateway.events.all.map(({ type }) => type).filter((type) => type.startsWith('agent:'))).toEqual([
        'agent:hot_added',
        'agent:hot_added',
        'agent:hot_removed',
      ])
    })

    test('names agents and keys that there are', async () => {
      const { status, body } = await gateway.json('/api/agents', { method: 'POST', body: { id: 'x', subAgents: ['clerq'] } })
      expect([status, body.error.message]).toEqual([400, expect.stringContaining('"clerk"')])
      expect((await gateway.json('/api/agents', { method: 'POST', body: { id: 'No!' } })).status).toBe(400)
      expect((await gateway.json('/api/agents', { method: 'POST', body: { id: 'x', instruction: 'typo' } })).status).toBe(400)
    })

    test('is made by admins only', async () => {
      const { key } = (await gateway.json('/api/keys', { method: 'POST', body: { name: 'user' } })).body
      expect((await gateway.json('/api/agents', { as: key })).status).toBe(200)
      expect((await gateway.json('/api/agents', { method: 'POST', as: key, body: { id: 'mine' } })).status).toBe(403)
    })
  })

  describe('an agent that calls another', () => {
    test('is given its answer; the child is a run of its own', async () => {
      provider.push(call('clerk', 'Write down 42'), { text: 'I wrote 42' }, { text: 'The clerk did it' })
      const id = await submit({ message: 'have it noted', agent: 'lead' })
      expect(await ended(id)).toMatchObject({ status: 'completed', result: 'The clerk did it' })
      const { data } = (await gateway.json(`/v1/runs?parent=${id}`)).body
      expect(data).toMatchObject([{ agent_id: 'clerk', parent_run_id: id, depth: 1, message: 'Write down 42', result: 'I wrote 42' }])
      expect(lastBody().messages.at(-1)?.content).toContain('I wrote 42')
      expect(types()).toEqual([
        'session:sub_agent_spawn_started',
        'session:sub_agent_spawned',
        'session:sub_agent_completed',
        'session:sub_agent_lifecycle_ended',
        'session:sub_agent_archived',
      ])
    })

    test('knows whom it may call, and calls nobody else', async () => {
      provider.push(call('poet', 'x'), { text: 'alone then' })
      expect(await ended(await submit({ message: 'x', agent: 'lead' }))).toMatchObject({ result: 'alone then' })
      expect(lastBody().messages[0]?.content).toContain('- clerk: Keeps notes')
      expect(lastBody().messages.at(-1)?.content).toContain('You may call clerk, asker, lead.')
      expect(types()).toEqual(['session:sub_agent_spawn_rejected'])
    })

    test('that calls itself is refused after three', async () => {
      provider.push(
        call('lead', '1'),
        call('lead', '2'),
        call('lead', '3'),
        call('lead', '4'),
        { text: 'deepest' },
        { text: 'c' },
        { text: 'b' },
        { text: 'a' },
      )
      expect(await ended(await submit({ message: '0', agent: 'lead' }))).toMatchObject({ status: 'completed', result: 'a' })
      expect(types().filter((type) => type.endsWith('spawned'))).toHaveLength(3)
      expect(types().filter((type) => type.endsWith('rejected'))).toHaveLength(1)
    })

    test('waits in the database while the child waits for a person', async () => {
      provider.push(
        call('asker', 'Ask'),
        { toolCalls: [{ name: 'ask_user', arguments: { question: 'Which?' } }] },
        { text: 'red it is' },
        { text: 'They said red' },
      )
      const id = await submit({ message: 'x', agent: 'lead' })
      await gateway.events.waitFor('run:awaiting_approval', ({ subject }) => subject === id)
      expect((await get(id)).status).toBe('awaiting_approval')
      const { approvals } = (await gateway.json('/api/approvals?state=pending')).body
      await gateway.json(`/api/approvals/${approvals[0].id}/answer`, { method: 'POST', body: { answer: 'red' } })
      expect(await ended(id)).toMatchObject({ status: 'completed', result: 'They said red' })
      expect((await gateway.json(`/v1/runs?parent=${id}`)).body.data).toHaveLength(1)
    })

    test('takes the child along when it is cancelled', async () => {
      provider.push(call('clerk', 'x'), { text: 'never ends '.repeat(10_000), frameDelayMs: 5 })
      const id = await submit({ message: 'x', agent: 'lead' })
      await gateway.events.waitFor('session:sub_agent_spawned')
      const { body } = await gateway.json(`/v1/runs/${id}/cancel`, { method: 'POST' })
      expect([body.cancelled, body.cascade_count]).toEqual([true, 1])
      expect((await gateway.json(`/v1/runs?parent=${id}`)).body.data).toMatchObject([{ status: 'cancelled' }])
    })
  })

  test('a reload takes agents in and out', async () => {
    const { body } = await gateway.json('/api/config', { method: 'PATCH', body: { agents: { list: { late: { instructions: 'Late.' } } } } })
    expect(body.error).toBeUndefined()
    await gateway.events.waitFor('agent:hot_added', ({ data }) => (data as { agent: string }).agent === 'late')
    expect(await ended(await submit({ message: 'x', agent: 'late' }))).toMatchObject({ status: 'completed' })
  })
})
