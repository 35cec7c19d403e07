/** A model server of this machine that is started after the gateway. */
import { describe, expect, test } from 'bun:test'
import { runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startModelServer } from '../fixtures/model-servers.ts'
import { until } from '../fixtures/until.ts'

describe.each(runtimes)('on %s', (runtime) => {
  test('Ollama that is started after the gateway is found within ten seconds, chats and streams; stopped it is marked down without a word in the log', async () => {
    const idle = await startModelServer('ollama')
    const { port } = idle
    await idle.stop()
    await using gateway = await spawnGateway({ runtime, config: `[discovery]\nintervalSeconds = 2\nports = { ollama = ${port} }\n` })
    const said = gateway.stderr

    const ollama = await startModelServer('ollama', port, ['llama3.2'])
    const at = performance.now()
    const names = async () => ((await (await gateway.fetch('/v1/models')).json()) as { data: { id: string }[] }).data.map(({ id }) => id)
    await until(async () => (await names()).includes('ollama/llama3.2'))
    expect(performance.now() - at).toBeLessThan(10_000)

    const chat = (stream: boolean) =>
      gateway.fetch('/v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'ollama/llama3.2', messages: [{ role: 'user', content: 'hello there' }], stream }),
      })
    expect(((await (await chat(false)).json()) as { choices: { message: { content: string } }[] }).choices[0]?.message.content).toBe('hello there')
    expect(await (await chat(true)).text()).toEndWith('data: [DONE]\n\n')
    // The laptop's chat takes it before the demo.
    const { stdout } = await runPortico(['chat', 'hello there', '--json', '--data-dir', gateway.dataDir], { runtime, cwd: gateway.dataDir })
    expect(JSON.parse(stdout)).toMatchObject({ model: 'ollama/llama3.2', response: 'hello there' })

    await ollama.stop()
    await until(async () => !(await names()).includes('ollama/llama3.2'))
    expect((await chat(false)).status).toBe(503)
    expect(gateway.stderr.slice(said.length)).not.toMatch(/ERR|WRN/)
  }, 60_000)
})
