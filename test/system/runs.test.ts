/** Runs as people and programs use them: the command line, approvals from anywhere, files that are staged, on both runtimes as real processes. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AgentModel, startAgentModel } from '../fixtures/agent-model.ts'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { until } from '../fixtures/until.ts'

describe.each(runtimes)('on %s', (runtime) => {
  let root: string
  let model: AgentModel
  let gateway: GatewayProcess
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'portico-agent-'))
    model = startAgentModel()
    gateway = await spawnGateway({
      runtime,
      config: `[runs]
model = "house/agent"
tools = ["*"]
[tools.risk]
current_time = "gated"
[workspace]
root = "${join(root, 'workspace')}"
[discovery]
enabled = false
[agents.list.clerk]
description = "Keeps notes"
tools = ["write_file"]
[models.providers.house]
type = "openai-compatible"
baseUrl = "${model.url}"
`,
    })
  }, 60_000)
  afterAll(async () => {
    await gateway?.stop()
    await model.stop()
    await rm(root, { recursive: true, force: true })
  })

  const portico = (...words: string[]) => runPortico([...words, '--data-dir', gateway.dataDir], { runtime, cwd: root })
  const json = async (...words: string[]) => {
    const { code, stdout, stderr } = await portico(...words, '--json')
    expect({ words, code, stderr }).toEqual({ words, code: 0, stderr: '' })
    return JSON.parse(stdout)
  }

  test('submitted on the command line, a run is followed word by word', async () => {
    const { code, stdout } = await portico('runs', 'submit', 'hello there')
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('said: hello there') })
    expect(stdout).toContain('· working')
  }, 30_000)

  test('a file is staged by an agent, seen as a diff, approved from the command line, and undone', async () => {
    const call = `call write_file ${JSON.stringify({ path: 'notes.md', content: 'one\ntwo\n' })}`
    const { run_id: id } = await json('runs', 'submit', `${call}\nwrite it`, '--agent', 'clerk', '--detach')
    let approvals: any[] = []
    while (approvals.length === 0) ({ approvals } = await json('approvals', 'list', '--run', id))
    expect(approvals).toMatchObject([{ kind: 'artifacts', title: 'notes.md', runId: id }])
    const { artifacts } = (await (await gateway.fetch(`/v1/runs/${id}/artifacts`)).json()) as any
    expect(artifacts).toMatchObject([{ path: 'notes.md', change: 'created', state: 'staged', diff: '+2 -0' }])
    expect(await (await gateway.fetch(`/v1/runs/${id}/artifacts/${artifacts[0].id}/patch`)).text()).toContain('+one\n+two')
    const shown = await portico('approvals', 'show', approvals[0].id)
    expect(shown.stdout).toContain(`portico approvals approve ${approvals[0].id}`)
    expect((await portico('approvals', 'approve', approvals[0].id)).stdout).toContain('is approved')
    const watched = await portico('runs', 'watch', id)
    expect({ code: watched.code, stdout: watched.stdout }).toEqual({ code: 0, stdout: expect.stringContaining('said: write it') })
    expect(await readFile(join(root, 'workspace', 'notes.md'), 'utf8')).toBe('one\ntwo\n')
    await gateway.fetch(`/v1/runs/${id}/artifacts/undo`, { method: 'POST' })
    await expect(readFile(join(root, 'workspace', 'notes.md'))).rejects.toThrow()
  }, 60_000)

  test('a gated tool that is denied: the model is told, the run goes on; a rejected file ends it', async () => {
    const { run_id: gated } = await json('runs', 'submit', 'call current_time {}\nwhat time', '--detach')
    const open = async (id: string) => {
      for (;;) {
        const { approvals } = await json('approvals', 'list', '--run', id)
        if (approvals.length > 0) return approvals[0]
      }
    }
    const denied = await portico('approvals', 'deny', (await open(gated)).id, '--comment', 'not now')
    expect([denied.code, denied.stdout]).toEqual([0, expect.stringMatching(/^apr_\w+ is denied; run_\w+ goes on\.\n$/)])
    const watched = await portico('runs', 'watch', gated)
    expect([watched.code, watched.stdout]).toEqual([0, expect.stringContaining('current_time failed')])
    const call = `call write_file ${JSON.stringify({ path: 'x.md', content: 'x' })}`
    const { run_id: files } = await json('runs', 'submit', `${call}\nwrite`, '--detach')
    const refused = await json('approvals', 'deny', (await open(files)).id)
    expect(refused).toMatchObject({ kind: 'artifacts', state: 'denied', decidedVia: 'cli' })
    const again = await portico('approvals', 'approve', refused.id)
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('was denied already')])
    const rejected = await portico('runs', 'watch', files)
    expect([rejected.code, rejected.stdout]).toEqual([1, expect.stringContaining('rejected')])
    expect(await json('runs', 'list', '--status', 'rejected')).toMatchObject({ data: [{ run_id: files }] })
  }, 60_000)

  test('a question is answered from the command line, and who decided what stays to be seen', async () => {
    const { run_id: id } = await json('runs', 'submit', 'call ask_user {"question":"Which one?"}\nask', '--detach')
    await until(async () => (await json('approvals', 'list', '--run', id)).approvals.length === 1)
    const listed = await portico('approvals', 'list', '--run', id)
    expect(listed.stdout).toMatch(/apr_\w+ +question .*pending.*Which one\?/)
    const [{ id: approval }] = (await json('approvals', 'list', '--run', id)).approvals
    expect((await portico('approvals', 'show', approval)).stdout).toContain(`portico approvals answer ${approval}`)
    expect((await portico('approvals', 'approve', approval)).code).toBe(1)
    const answered = await json('approvals', 'answer', approval, 'the blue one', '--comment', 'it is nearer')
    expect(answered).toMatchObject({ state: 'approved', answer: 'the blue one', comment: 'it is nearer', decidedVia: 'cli' })
    expect((await portico('runs', 'watch', id)).stdout).toMatch(/✓ ask_user done\nsaid: ask\ncompleted/)
    const shown = await portico('approvals', 'show', approval)
    expect(shown.stdout).toMatch(/approved by .* \(cli\) at 20[\s\S]*Answer: the blue one\nComment: it is nearer/)
    expect((await portico('approvals', 'list', '--run', id)).stdout).toContain('Nothing waits')
    expect((await json('approvals', 'list', '--run', id, '--all')).approvals).toMatchObject([{ id: approval, state: 'approved' }])
  }, 60_000)

  test('runs are shown, cancelled, tried again and deleted', async () => {
    const { run_id: id } = await json('runs', 'submit', 'call ask_user {"question":"Which?"}\nask', '--detach')
    for (;;) {
      const { approvals } = await json('approvals', 'list', '--run', id)
      if (approvals.length > 0) break
    }
    expect((await portico('runs', 'cancel', id)).stdout).toContain(`Cancelled: ${id}`)
    const shown = await portico('runs', 'show', id)
    expect(shown.stdout).toContain('cancelled')
    const { run_id: again } = await json('runs', 'retry', id)
    for (;;) {
      const { approvals } = await json('approvals', 'list', '--run', again)
      if (approvals.length === 0) continue
      await portico('approvals', 'answer', approvals[0].id, 'blue')
      break
    }
    expect((await portico('runs', 'watch', again)).code).toBe(0)
    expect((await portico('runs', 'delete', id)).stdout).toContain('is deleted')
    expect((await portico('runs', 'show', id)).code).toBe(1)
    expect((await portico('runs', 'list')).stdout).toContain(again)
  }, 60_000)

  test('agents are made, listed and deleted', async () => {
    expect((await portico('agents', 'create', 'poet', '--instructions', 'Rhyme.', '--tool', 'current_time')).stdout).toContain('--agent poet')
    expect((await portico('agents', 'list')).stdout).toMatch(/poet +api/)
    expect(await json('agents', 'show', 'poet')).toMatchObject({ id: 'poet', tools: ['current_time'] })
    expect((await portico('agents', 'delete', 'poet')).code).toBe(0)
  }, 30_000)

  test('a run over a socket', async () => {
    const { run_id: id } = await json('runs', 'submit', 'over a socket', '--detach')
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws/runs/${id}`, {
      headers: { authorization: `Bearer ${gateway.token}` },
    } as never)
    const frames: any[] = []
    socket.onmessage = ({ data }) => frames.push(JSON.parse(data as string))
    await new Promise((resolve) => {
      socket.onclose = resolve
    })
    expect([frames[0].type, frames.at(-1)]).toEqual(['snapshot', expect.objectContaining({ type: 'completed', result: 'said: over a socket' })])
  }, 30_000)
})
