import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'portico'
import type { ScriptedCall } from 'portico/plugins/models/testing'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { ann, noteTool, type RunsGateway, startRunsGateway } from '../../test/fixtures/runs.ts'
import { databases } from '../../test/fixtures/stores.ts'

const noted: string[] = []
const calls = { model: 0 }

/** One tool call, then the answer. */
const script = ({ body }: ScriptedCall) => {
  calls.model++
  const { messages } = body as { messages: { role: string }[] }
  return messages.at(-1)?.role === 'tool' ? { text: 'done' } : { toolCalls: [{ name: 'note', arguments: { text: 'x' } }] }
}

describe.each(databases)('on %s', (database) => {
  let postgres: TestPostgres | undefined
  let house: RunsGateway
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
    house = await startRunsGateway({ databaseUrl: await postgres?.newDatabase(), config: 'lease = 1000', tools: [noteTool(noted)], provider: { script } })
    await house.db.execute(sql`create sequence written`)
    await house.db.execute(sql`
      create function fail_at() returns trigger language plpgsql as $$
      begin
        if nextval('written') = current_setting('test.fail_at', true)::int then raise exception 'the disk is on fire'; end if;
        return new;
      end $$`)
  }, 60_000)
  afterAll(async () => {
    await house.stop()
    await postgres?.stop()
  })
  beforeEach(() => {
    noted.length = 0
    calls.model = 0
  })

  /** Lets one insert into the record fail: the first is number 1. */
  async function failAt(n: number): Promise<void> {
    await house.db.execute(sql`alter sequence written restart`)
    await house.db.execute(
      sql.raw(`create or replace function fail_at() returns trigger language plpgsql as $$
      begin
        if nextval('written') = ${n} then raise exception 'the disk is on fire'; end if;
        return new;
      end $$`),
    )
    await house.db.execute(sql`drop trigger if exists fail_at on runs_entries`)
    await house.db.execute(sql`create trigger fail_at before insert on runs_entries for each row execute function fail_at()`)
  }

  test('a write that fails when a run is taken in: there is no run', async () => {
    await failAt(1)
    await expect(house.submit('x')).rejects.toThrow()
    expect(await house.runs.list(ann, { state: 'queued' })).toEqual([])
  })

  test('a write that fails when a run is begun with its submission: there is no run', async () => {
    await failAt(2)
    await expect(house.submit('x')).rejects.toThrow()
    expect(await house.runs.list(ann, { state: 'running' })).toEqual([])
  })

  test('a write that fails when a run from the queue is begun: it is begun again when its lease has run out', async () => {
    await failAt(2)
    const { id } = await house.submit('x', { startAt: new Date() })
    expect((await house.end(id)).state).toBe('completed')
    expect([calls.model, noted.length]).toEqual([2, 1])
  })

  test.each([
    ['the model’s answer', 3, 1, 0],
    ['the begin of a tool call', 4, 1, 0],
    ['the result of a tool call', 5, 1, 1],
    ['the last answer', 6, 2, 1],
    ['the end', 7, 2, 1],
  ] as const)('a write that fails at %s ends the run first: no model and no tool is called after it', async (_, n, models, tools) => {
    await failAt(n)
    const run = await house.end((await house.submit('x')).id)
    expect([run.state, run.error?.code]).toEqual(['failed', 'internal_error'])
    expect(run.error?.message).not.toContain('fire')
    expect([calls.model, noted.length]).toEqual([models, tools])
    const types = (await house.runs.entries(run.id, ann)).map(({ type }) => type)
    expect(types.at(-1)).toBe('failed')
    expect(types.filter((type) => type === 'tool_call').length).toBe(n > 4 ? 1 : 0)
  })

  const moments: [when: string, then: (release: () => void) => unknown][] = [
    ['at once', (release) => release()],
    // The tool, and the model that is called next, are plugins' that end before the runs are let go.
    ['while the plugins end', (release) => setTimeout(release, 20)],
    ['when the runs are let go', (release) => setTimeout(release, 500)],
  ]
  test.each(moments)(
    'a stop lets a tool that is not to be called twice end, %s; the run goes on after the start, and nobody is asked',
    async (_, then) => {
      const { promise: atWork, resolve: begin } = Promise.withResolvers<void>()
      const { promise: released, resolve: release } = Promise.withResolvers<void>()
      const done: string[] = []
      const slow = noteTool(done)
      const tools = [
        {
          ...slow,
          async run(...given: Parameters<typeof slow.run>) {
            begin()
            await released
            return slow.run(...given)
          },
        },
      ]
      const dataDir = await mkdtemp(join(tmpdir(), 'portico-stop-'))
      const options = { databaseUrl: await postgres?.newDatabase(), tools, provider: { script }, gateway: { dataDir } }
      const before = await startRunsGateway(options)
      const { id } = await before.submit('x')
      await atWork
      const stopping = before.stop()
      then(release)
      await stopping
      const after = await startRunsGateway(options)
      expect((await after.end(id)).state).toBe('completed')
      expect(done).toEqual(['x'])
      expect(await after.approvals.ofRun(id)).toEqual([])
      await after.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
    30_000,
  )
})
