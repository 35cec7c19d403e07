/** Seed 4 as it is written, names adapted: pairing, chat, sockets; and `portico chat` in a terminal. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type GatewayProcess, runPortico, runtimePath, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { openRawSocket } from '../fixtures/raw-socket.ts'
import { createKey } from '../fixtures/send.ts'
import { openTerminal } from '../fixtures/terminal.ts'
import { until } from '../fixtures/until.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

const main = join(import.meta.dir, '../../kernel/cli/main.ts')

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  let upstream: Upstream
  let token = ''
  beforeAll(async () => {
    upstream = await startUpstream()
    const config = `[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\n`
    gateway = await spawnGateway({ runtime, config })
  }, 60_000)
  afterAll(async () => {
    await gateway?.stop()
    await upstream?.stop()
  })

  async function curl(script: string): Promise<string> {
    const here = script.replaceAll('127.0.0.1:42617', new URL(gateway.url).host).replaceAll('<token>', token)
    const child = Bun.spawn(['bash', '-euo', 'pipefail', '-c', here.replaceAll('curl ', 'curl -sS --max-time 20 ')], { stdout: 'pipe', stderr: 'inherit' })
    const out = await new Response(child.stdout).text()
    expect([script, await child.exited]).toEqual([script, 0])
    return out
  }

  test('the health check needs no key', async () => {
    expect(JSON.parse(await curl('curl http://127.0.0.1:42617/health'))).toMatchObject({ status: 'ok' })
  })

  test('the code from the terminal becomes a token', async () => {
    const code = /Pairing +(\S+)/.exec(gateway.stdout)?.[1]
    const paired = JSON.parse(await curl(`curl -X POST http://127.0.0.1:42617/pair \\\n-H "X-Pairing-Code: ${code}"`))
    token = paired.token
    expect(paired).toEqual(expect.objectContaining({ paired: true, token: expect.stringMatching(/^ptk_/) }))
    expect(
      JSON.parse(await curl('curl -X POST http://127.0.0.1:42617/v1/ping \\\n-H "Authorization: Bearer <token>" \\\n-H "Content-Type: application/json"')),
    ).toMatchObject({ ok: true })
  })

  test('a message, and the complete answer as JSON', async () => {
    const said = await curl(`curl -X POST http://127.0.0.1:42617/api/chat \\
-H "Authorization: Bearer <token>" \\
-H "Content-Type: application/json" \\
-d '{"message": "What is the weather?", "context": ""}'`)
    expect(JSON.parse(said)).toMatchObject({ message: expect.any(String), tokens_used_estimate: expect.any(Number), model: 'local/mock-large' })
  })

  test('OpenAI’s chat completions, whole and streamed, and the models', async () => {
    const body = (more: string) => `'{"model": "mock-small", "messages": [{"role": "user", "content": "hello"}]${more}}'`
    const headers = '-H "Authorization: Bearer <token>" -H "Content-Type: application/json"'
    expect(JSON.parse(await curl(`curl -X POST http://127.0.0.1:42617/v1/chat/completions ${headers} -d ${body('')}`)).choices).toHaveLength(1)
    expect(await curl(`curl -X POST http://127.0.0.1:42617/v1/chat/completions ${headers} -d ${body(', "stream": true')}`)).toEndWith('data: [DONE]\n\n')
    const { data } = JSON.parse(await curl('curl http://127.0.0.1:42617/v1/models -H "Authorization: Bearer <token>"'))
    expect(data.map(({ id }: { id: string }) => id)).toContain('local/mock-small')
  })

  test('the socket: a text message, delta frames, done; and an error with its description', async () => {
    const frames: Record<string, string>[] = []
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws/chat`, { headers: { authorization: `Bearer ${token}` } } as never)
    const ended = new Promise<void>((resolve) => {
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data as string)
        frames.push(frame)
        if (frame.type === 'done') socket.send('{"message":"x","model":"nowhere/none"}')
        if (frame.type === 'error') resolve()
      }
    })
    socket.onopen = () => socket.send('{"message":"hello there","model":"demo/echo"}')
    await ended
    socket.close()
    const deltas = frames.filter(({ type }) => type === 'delta')
    expect(deltas.map(({ delta }) => delta).join('')).toBe('hello there')
    expect(frames.map(({ type }) => type)).toEqual([...deltas.map(() => 'delta'), 'done', 'error'])
    expect(frames.at(-1)).toMatchObject({ type: 'error', message: expect.any(String) })
  })

  test('a revoked key ends its sockets and answers within a second, and with them the upstream', async () => {
    const { id, key } = await createKey(gateway)
    upstream.script({ hang: { frames: 3 } }, { path: '/v1/chat' })
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws/chat`, { headers: { authorization: `Bearer ${key}` } } as never)
    const idle = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws/chat`, { headers: { authorization: `Bearer ${key}` } } as never)
    const closed = [socket, idle].map((each) => new Promise<number>((resolve) => each.addEventListener('close', ({ code }) => resolve(code))))
    await Promise.all([socket, idle].map((each) => new Promise((resolve) => each.addEventListener('open', resolve))))
    const answering = new Promise((resolve) => socket.addEventListener('message', resolve))
    socket.send('{"message":"hello","model":"local/mock-small"}')
    await answering

    const at = performance.now()
    expect((await gateway.fetch(`/api/keys/${id}`, { method: 'DELETE' })).status).toBe(200)
    expect(await Promise.all(closed)).toEqual([4001, 4001])
    await upstream.idle()
    expect(performance.now() - at).toBeLessThan(1_000)
  })

  test('who never reads is cut off, and the run and its upstream end; nobody else waits for it', async () => {
    const { key } = await createKey(gateway)
    // Six bytes for each character as JSON, more than any buffer between the two holds; then silence.
    upstream.script({ answer: `${'\u0001'.repeat(99)} `.repeat(18_000), hang: { frames: 18_000 } }, { path: '/v1/chat' })
    const { socket, send } = await openRawSocket(gateway, '/ws/chat', key)
    socket.pause()
    send(JSON.stringify({ message: 'tell me everything'.padEnd(120), model: 'local/mock-small' }))
    const latest = async () => ((await (await gateway.fetch('/v1/runs?limit=1')).json()) as { data: { status: string; model: string }[] }).data[0]
    await until(async () => (await latest())?.model === 'local/mock-small')
    const other = await gateway.fetch('/v1/chat/completions', {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: '{"model":"demo/echo","messages":[{"role":"user","content":"and me?"}]}',
    })
    expect(other.status).toBe(200)
    await until(async () => (await latest())?.status === 'cancelled', { ms: 20_000 })
    await upstream.idle()
    socket.destroy()
    // It has left, that is all.
    expect(gateway.stderr).not.toContain('An answer failed')
  }, 40_000)

  test('an answer of 50,000 words, as fast as they come, is whole and streamed', async () => {
    const words = Array.from({ length: 50_000 }, (_, n) => `w${n}`).join(' ')
    upstream.script({ answer: words }, { path: '/v1/chat' })
    const response = await gateway.fetch('/api/chat/stream', {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: '{"message":"x","model":"local/mock-small","accumulated":false}',
    })
    const frames = (await response.text()).split('\n\n')
    const said = frames.flatMap((frame) => (frame.startsWith('event: token\n') ? [JSON.parse(frame.slice(frame.indexOf('data: ') + 6)).delta as string] : []))
    expect(said.join('')).toBe(words)
    expect(said.length).toBeGreaterThan(10)
    expect(frames.at(-2)).toStartWith('event: done\n')
    expect(gateway.stderr).not.toContain('it was blocked')
  }, 20_000)

  test('a stream is refused without a token, and a socket at its upgrade', async () => {
    expect((await fetch(`${gateway.url}/api/chat/stream?message=x`)).status).toBe(401)
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws/chat`)
    await new Promise((resolve) => {
      socket.onerror = resolve
    })
  })

  test('a message upstream dies of ends the stream in an error', async () => {
    upstream.script({ dieAfter: 2 }, { path: '/v1/chat' })
    const response = await fetch(`${gateway.url}/api/chat/stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: '{"message":"x","model":"local/mock-small"}',
    })
    const text = await response.text()
    expect(text).toContain('event: error\n')
    expect(text).not.toContain('event: done\n')
  })

  describe('portico chat', () => {
    const chat = (...args: string[]) => runPortico(['chat', ...args, '--data-dir', gateway.dataDir], { runtime, cwd: gateway.dataDir })

    test('answers one message, as text and as JSON, and goes on in a session', async () => {
      expect(await chat('hello there', '--model', 'demo/echo')).toEqual({ code: 0, stdout: 'hello there\n', stderr: '' })
      const { stdout, code } = await chat('again', '--continue', '--json')
      expect([code, JSON.parse(stdout)]).toEqual([
        0,
        expect.objectContaining({ response: 'again', model: 'demo/echo', sessionKey: expect.stringMatching(/^sess_/) }),
      ])
      const { sessionKey } = JSON.parse(stdout)
      const { messages } = (await (await gateway.fetch(`/api/chat/history?sessionKey=${sessionKey}`)).json()) as { messages: { content: string }[] }
      expect(messages.map(({ content }) => content)).toEqual(['hello there', 'hello there', 'again', 'again'])
    })

    test('what is wrong says why, and is 1', async () => {
      const { code, stdout, stderr } = await chat('x', '--model', 'nowhere/none')
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toContain('nowhere/none')
    })

    test('in a terminal: several lines that are pasted are as many messages, and nothing of an answer reaches the terminal as a command', async () => {
      const command = [runtimePath(runtime), ...(runtime === 'deno' ? ['run', '-A'] : []), main, 'chat', '--model', 'local/mock-small']
      const terminal = openTerminal([...command, '--data-dir', gateway.dataDir], { cwd: gateway.dataDir })
      try {
        await terminal.see('> ')
        terminal.type('first line\rsecond line\rand the')
        await terminal.see(/and the\r?\nfirst line\r?\n/)
        await terminal.see(/> second line\r?\nsecond line\r?\n/)
        upstream.script({ answer: 'safe\u001b]52;c;aGk=\u0007 \u009b2J\rend' }, { path: '/v1/chat' })
        await terminal.see('> ')
        await terminal.see('and the')
        terminal.type(' third\r')
        await terminal.see('safe]52;c;aGk= 2Jend')
        await terminal.see('> ')
        terminal.type('\u0004')
        expect(await terminal.exited).toBe(0)
      } finally {
        terminal.kill()
      }
    })

    test('in a terminal: streams, Ctrl-C stops an answer, the chat goes on, Ctrl-C at the prompt ends it', async () => {
      const command = [runtimePath(runtime), ...(runtime === 'deno' ? ['run', '-A'] : []), main, 'chat', '--data-dir', gateway.dataDir]
      const terminal = openTerminal(command, { cwd: gateway.dataDir })
      try {
        await terminal.see('> ')
        upstream.script({ hang: { frames: 3 } }, { path: '/v1/chat' })
        terminal.type('a long story\r')
        await upstream.waitForRequest(({ path, json }) => path.endsWith('/chat/completions') && JSON.stringify(json).includes('a long story'))
        // The answer, not what was typed.
        await terminal.see(/\na long(?! story)/)
        terminal.type('\u0003')
        await terminal.see('Stopped.')
        await upstream.idle()
        await terminal.see('> ')
        terminal.type('and now\r')
        await terminal.see('> ')
        terminal.type('\u0003')
        expect(await terminal.exited).toBe(0)
        expect(terminal.screen).toContain('portico chat --session sess_')
      } finally {
        terminal.kill()
      }
    })
  })
})
