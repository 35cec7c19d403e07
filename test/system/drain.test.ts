import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

let upstream: Upstream
beforeAll(async () => {
  upstream = await startUpstream()
})
afterAll(() => upstream.stop())

const config = (shutdownDeadlineMs: number) =>
  `[gateway]\nshutdownDeadlineMs = ${shutdownDeadlineMs}\n[provider-demo]\nenabled = false\n[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\n`

const chat = { method: 'POST', headers: { 'content-type': 'application/json' } }
const body = (content: string) => JSON.stringify({ model: 'local/mock-small', stream: true, messages: [{ role: 'user', content }] })

describe.each(runtimes)('a stop on %s', (runtime) => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'by %s ends event streams at once, lets a model stream finish, and exits 0',
    async (signal) => {
      const gateway = await spawnGateway({ runtime, config: config(10_000) })
      const events = readSse(await gateway.fetch('/api/events'))
      await events.waitFor('ready')
      upstream.script({ frameDelayMs: 60 }, { path: '/v1/chat' })
      const answer = await gateway.fetch('/v1/chat/completions', { ...chat, body: body('one two three four five six seven eight nine ten') })
      const reader = answer.body?.getReader()
      await reader?.read()
      const stopping = gateway.stop(signal)
      await events.ended
      let text = ''
      for (;;) {
        const { value, done } = (await reader?.read()) ?? { done: true, value: undefined }
        if (done) break
        text += new TextDecoder().decode(value)
      }
      expect(text).toContain('ten')
      expect(text.trimEnd()).toEndWith('data: [DONE]')
      expect(await stopping).toBe(0)
    },
    30_000,
  )

  test('gives a model stream that outlasts the deadline an error frame and no [DONE]', async () => {
    const gateway = await spawnGateway({ runtime, config: config(300) })
    upstream.script({ hang: { frames: 2 } }, { path: '/v1/chat' })
    const answer = await gateway.fetch('/v1/chat/completions', { ...chat, body: body('one two three') })
    const reader = answer.body?.getReader()
    await reader?.read()
    const stopping = gateway.stop()
    let text = ''
    for (;;) {
      const { value, done } = (await reader?.read()) ?? { done: true, value: undefined }
      if (done) break
      text += new TextDecoder().decode(value)
    }
    expect(text).toContain('"error"')
    expect(text).not.toContain('[DONE]')
    expect(await stopping).toBe(0)
  }, 240_000)

  test('or even a kill -9 finds every acknowledged durable event on disk', async () => {
    const gateway = await spawnGateway({ runtime, config: config(5_000) })
    const key = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"name":"kept"}' }
    expect((await gateway.fetch('/api/keys', key)).status).toBe(201)
    const { dataDir } = gateway
    await gateway.kill9()
    const again = await spawnGateway({ runtime, dataDir, config: config(5_000) })
    const reader = readSse(await again.fetch('/api/events?types=key:created&since=1-0'))
    expect(JSON.parse((await reader.waitFor('key:created')).data)).toMatchObject({ name: 'kept' })
    await reader.close()
    expect(await again.stop()).toBe(0)
    await gateway.stop()
  }, 240_000)
})
