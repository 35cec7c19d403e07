import { afterEach, expect, test } from 'bun:test'
import { createServer } from 'node:net'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { startModelServer } from '../../test/fixtures/model-servers.ts'
import { until } from '../../test/fixtures/until.ts'
import type { Upstream } from '../../test/fixtures/upstream.ts'

const servers: Upstream[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop()
})
async function serve(...args: Parameters<typeof startModelServer>): Promise<Upstream> {
  const server = await startModelServer(...args)
  servers.push(server)
  return server
}
const start = (ports: Record<string, number>, config = '') =>
  startTestGateway({
    config: `[discovery]\nintervalSeconds = 0.05\nports = { ollama = 0, lmstudio = 0, llamacpp = 0, vllm = 0, ${Object.entries(ports)
      .map(([kind, port]) => `${kind} = ${port}`)
      .join(', ')} }\n${config}`.replace(/(\w+) = 0, (?=.*\1 = )/g, ''),
  })
const names = async (gateway: TestGateway) => (await gateway.json('/v1/models')).body.data.map(({ id }: { id: string }) => id)
const say = (gateway: TestGateway, model: string) =>
  gateway.json('/v1/chat/completions', { method: 'POST', body: { model, messages: [{ role: 'user', content: 'hello there' }] } })

test('each kind is told by its own API, and its models are there at the start', async () => {
  const ports: Record<string, number> = {}
  for (const kind of ['ollama', 'lmstudio', 'llamacpp', 'vllm'] as const) ports[kind] = (await serve(kind, 0, ['a-model'])).port
  await using gateway = await start(ports)
  await until(async () => (await names(gateway)).length === 6)
  expect(await names(gateway)).toEqual(['demo/echo', 'demo/tools', 'llamacpp/a-model', 'lmstudio/a-model', 'ollama/a-model', 'vllm/Qwen/Qwen3-0.6B'])
  expect((await say(gateway, 'ollama/a-model')).body.choices[0].message.content).toBe('hello there')
})

test('what is something else, silent, or nothing at all is left alone', async () => {
  const stranger = await serve('stranger')
  const mute = createServer(() => {}).listen(0, '127.0.0.1')
  await new Promise((resolve) => mute.once('listening', resolve))
  const { port } = mute.address() as { port: number }
  await using gateway = await start({ ollama: stranger.port, lmstudio: port, llamacpp: stranger.port, vllm: stranger.port })
  await until(() => stranger.requests.length > 3)
  expect(await names(gateway)).toEqual(['demo/echo', 'demo/tools'])
  mute.close()
})

test('one that appears is found; one that goes is marked down, without a warning; one that comes back is back', async () => {
  const first = await startModelServer('ollama', 0, ['llama3.2'])
  const { port } = first
  await first.stop()
  await using gateway = await start({ ollama: port })
  expect(await names(gateway)).toEqual(['demo/echo', 'demo/tools'])

  const second = await startModelServer('ollama', port, ['llama3.2'])
  await until(async () => (await names(gateway)).includes('ollama/llama3.2'))
  await gateway.events.waitFor('model:catalog_loaded', ({ data }) => (data as { provider: string }).provider === 'ollama')

  await second.stop()
  expect((await gateway.events.waitFor('provider:degraded')).data).toMatchObject({ provider: 'ollama', reason: 'gone' })
  expect(await names(gateway)).toEqual(['demo/echo', 'demo/tools'])
  const { status, body } = await say(gateway, 'ollama/llama3.2')
  expect([status, body.error.code, body.error.message]).toEqual([503, 'unavailable', `Ollama on port ${port} does not run any more: start it again.`])
  expect(gateway.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([])

  await serve('ollama', port, ['llama3.2', 'qwen3'])
  await gateway.events.waitFor('provider:recovered')
  await until(async () => (await names(gateway)).includes('ollama/qwen3'))
  expect((await say(gateway, 'ollama/qwen3')).status).toBe(200)
})

test('what is found stays found when the plugin is set up anew', async () => {
  const { port } = await serve('ollama', 0, ['llama3.2'])
  await using gateway = await start({ ollama: port })
  await until(async () => (await names(gateway)).includes('ollama/llama3.2'))
  expect((await gateway.gateway.kernel.reload({ restart: ['discovery'] })).restarted).toEqual(['discovery'])
  await gateway.events.waitFor('plugin:stopped')
  await until(async () => (await names(gateway)).includes('ollama/llama3.2'))
  expect((await say(gateway, 'ollama/llama3.2')).status).toBe(200)
})

test('an alias may name a model of one that is not there yet', async () => {
  const later = await startModelServer('ollama', 0, ['llama3.2'])
  await later.stop()
  await using gateway = await start({ ollama: later.port }, '[models.aliases]\nfast = "ollama/llama3.2"\n')
  expect((await say(gateway, 'fast')).status).toBe(404)
  await serve('ollama', later.port, ['llama3.2'])
  await until(async () => (await say(gateway, 'fast')).status === 200)
})

test('a provider of that name in the config takes precedence', async () => {
  const found = await serve('ollama', 0, ['found'])
  const named = await serve('ollama', 0, ['named'])
  await using gateway = await start({ ollama: found.port }, `[models.providers.ollama]\ntype = "openai-compatible"\nbaseUrl = "${named.url}"\n`)
  await until(() => found.requests.length > 2)
  await until(async () => (await names(gateway)).includes('ollama/named'))
  expect(await names(gateway)).not.toContain('ollama/found')
})

test('an answer without end, and one of many bytes, cost a second and a megabyte, and find nothing', async () => {
  const server = await serve('stranger')
  let sent = 0
  server.reset()
  server.script(
    (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const more = () => {
        if (response.destroyed) return
        sent += 65_536
        response.write(Buffer.alloc(65_536, 32), () => setImmediate(more))
      }
      more()
    },
    { times: Number.POSITIVE_INFINITY },
  )
  await using gateway = await start({ ollama: server.port })
  await until(() => server.requests.length > 1)
  expect(sent).toBeLessThan(64 * 1024 * 1024)
  expect(await names(gateway)).toEqual(['demo/echo', 'demo/tools'])
})
