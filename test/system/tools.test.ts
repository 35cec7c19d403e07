/** The tools that models may call, on both runtimes: listed over HTTP and by the command, and each of the built-in ones called. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Origin, startOrigin } from '../fixtures/egress.ts'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'

const caller = fileURLToPath(new URL('../fixtures/plugins/tool-caller.ts', import.meta.url))
const page = `<!doctype html><title>t</title><nav>menu</nav><article><h1>Head</h1><p>First&nbsp;word, <a href="https://example.com/x">a link</a>.</p></article><script>x</script>`
let origin: Origin
beforeAll(async () => {
  origin = await startOrigin((request, response) => {
    const [type, body] = (
      {
        '/page': ['text/html; charset=utf-8', page],

        '/data': ['application/json', '{"a":1}'],
        '/logo': ['image/png', 'x'],
      } as const
    )[request.url ?? ''] ?? ['text/plain', '']
    response.writeHead(request.url === '/gone' ? 404 : 200, { 'content-type': type }).end(body)
  })
})
afterAll(() => origin.stop())

describe.each(runtimes)('tools on %s', (runtime) => {
  let gateway: GatewayProcess
  beforeAll(async () => {
    const config = `plugins = [${JSON.stringify(caller)}]\n[egress]\nallowPrivate = ["127.0.0.1"]\n[tools]\nmaxOutput = 2000\n[tools.risk]\n"caller/throw" = "gated"\nsearch_files = "forbidden"\n`
    gateway = await spawnGateway({ runtime, config })
  }, 30_000)
  afterAll(() => gateway?.stop())
  const post = async (path: string, body: unknown) => {
    const answer = await gateway.fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
    return { status: answer.status, body: (await answer.json()) as any }
  }
  const call = async (name: string, input: unknown, more = {}) => (await post('/tool-caller', { name, input, runId: 'run_1', ...more })).body
  const text = async (name: string, input: unknown) => {
    const { parts, code } = await call(name, input)
    return code ?? parts.map((part: { text: string }) => part.text).join('\n')
  }

  test('are listed with their schemas, over HTTP and by the command', async () => {
    const { tools } = (await (await gateway.fetch('/api/tools')).json()) as { tools: any[] }
    expect(tools.map(({ name, risk }) => `${name} ${risk}`)).toEqual([
      ...['apply_patch safe', 'ask_user safe', 'call_agent safe', 'caller/hang safe', 'caller/throw gated', 'current_time safe', 'list_files safe'],
      ...['read_file safe', 'search_files forbidden', 'web_fetch safe', 'write_file safe'],
    ])
    const readFile = tools.find(({ name }) => name === 'read_file')
    expect(readFile).toMatchObject({ wireName: 'read_file', idempotent: true, input: { type: 'object', required: ['path'], additionalProperties: false } })
    expect(readFile.description).not.toContain('taken')
    expect(tools.find(({ name }) => name === 'caller/hang').wireName).toBe('x--caller-2f-hang')
    expect((await gateway.fetch('/api/tools', { headers: { authorization: '' } })).status).toBe(401)
    const { code, stdout } = await runPortico(['tools', '--json', '--data-dir', gateway.dataDir], { runtime })
    expect({ code, listed: JSON.parse(stdout) }).toEqual({ code: 0, listed: tools })
    const { stdout: table } = await runPortico(['tools', '--data-dir', gateway.dataDir], { runtime })
    expect(table).toMatch(/^NAME +RISK +WHAT\napply_patch +safe +Changes text files/)
    expect(gateway.stdout + gateway.stderr).toContain('another of that name')
  }, 30_000)

  test('read, stage and patch files of the workspace, and nothing above it', async () => {
    const one = 'one\ntwo\nthree\n'
    expect(await text('write_file', { path: 'notes/a.md', content: one })).toBe('Staged: notes/a.md (created, +3 -0)')
    expect(await text('read_file', { path: 'notes/a.md', firstLine: 2, lines: 1 })).toBe('two')
    const patch = (to: string) =>
      `--- a/notes/a.md\n+++ b/notes/a.md\n@@ -1,3 +1,3 @@\n one\n-two\n+${to}\n three\n--- /dev/null\n+++ b/b.md\n@@ -0,0 +1 @@\n+new\n`
    expect(await text('apply_patch', { patch: patch('2') })).toBe('Staged: notes/a.md (created, +3 -0), b.md (created, +1 -0)')
    expect(await text('apply_patch', { patch: patch('3') })).toBe('unprocessable')
    expect(await text('list_files', { depth: 3 })).toBe('b.md 4\nnotes/\nnotes/a.md 12')
    expect(await text('search_files', { text: '^t', isRegex: true })).toBe('forbidden')
    for (const path of ['../x', '/etc/passwd', 'notes/../../x']) {
      expect(await text('read_file', { path })).toBe('invalid_request')
      expect(await text('write_file', { path, content: 'x' })).toBe('invalid_request')
      expect(await text('apply_patch', { patch: `--- /dev/null\n+++ b/${path}\n@@ -0,0 +1 @@\n+x\n` })).toBe('invalid_request')
    }
    const applied = (await post('/tool-caller/apply', { runId: 'run_1' })).body
    expect(applied.map(({ path, state }: any) => `${path} ${state}`)).toEqual(['b.md applied', 'notes/a.md applied'])
    expect(await readFile(join(gateway.dataDir, 'files/workspace/notes/a.md'), 'utf8')).toBe('one\n2\nthree\n')
    expect(await text('read_file', { path: 'no.md' })).toBe('not_found')
    await writeFile(join(gateway.dataDir, 'files/workspace/binary'), 'a\0b')
    await writeFile(join(gateway.dataDir, 'files/workspace/huge'), 'x'.repeat(2_000_000))
    expect(await text('read_file', { path: 'binary' })).toBe('unsupported_media_type')
    expect(await text('read_file', { path: 'huge' })).toBe('body_too_large')
  }, 30_000)

  test('fetch pages as text, by egress alone', async () => {
    expect(await text('web_fetch', { url: `${origin.url}/page` })).toBe('Head\n\nFirst\u00a0word, a link [https://example.com/x].')
    expect(await text('web_fetch', { url: `${origin.url}/page`, raw: true })).toBe(page)
    expect(await text('web_fetch', { url: `${origin.url}/data` })).toBe('{"a":1}')
    expect(await text('web_fetch', { url: `${origin.url}/logo` })).toBe('unsupported_media_type')
    expect(await text('web_fetch', { url: `${origin.url}/gone` })).toBe('upstream_error')
    expect(await text('web_fetch', { url: 'http://169.254.169.254/' })).toBe('address_not_allowed')
  }, 30_000)

  test('know the time, ask the person, and end in time', async () => {
    const { structured } = await call('current_time', { timeZone: 'Asia/Kolkata' })
    expect(structured).toMatchObject({ utc: expect.stringMatching(/Z$/), local: expect.stringMatching(/T..:..:..\+05:30$/), timeZone: 'Asia/Kolkata' })
    expect(new Date(structured.local).getTime()).toBe(Math.floor(new Date(structured.utc).getTime() / 1_000) * 1_000)
    expect(await text('current_time', { timeZone: 'Mars/Base' })).toBe('invalid_request')
    const question = { question: 'Sure?', choices: ['yes', 'no'] }
    expect(await call('ask_user', question)).toEqual({ suspended: 'Sure?', choices: ['yes', 'no'] })
    expect(await call('ask_user', question, { answer: 'no' })).toMatchObject({ isError: false, parts: [{ text: 'no' }] })
    expect(await text('x--caller-2f-hang', {})).toBe('deadline_exceeded')
    const failed = await call('caller/throw', {})
    expect([failed.code, JSON.stringify(failed).includes('secret')]).toEqual(['internal_error', false])
    expect(await text('write_file', { path: 'long.md', content: 'x'.repeat(5_000) })).toContain('Staged')
    const { parts } = await call('read_file', { path: 'long.md' })
    expect(parts).toMatchObject([{ text: 'x'.repeat(2_000) }, { text: expect.stringContaining('3000 of 5000 characters') }])
  }, 30_000)
})
