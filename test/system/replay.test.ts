import { describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, type RuntimeName, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { readSse } from '../fixtures/sse-reader.ts'

const config = `plugins = [${JSON.stringify(fileURLToPath(new URL('../fixtures/plugins/emitter.ts', import.meta.url)))}]\n[provider-demo]\nenabled = false\n`

async function withGateways(runtime: RuntimeName, body: (start: (port?: number) => Promise<GatewayProcess>) => Promise<void>) {
  const dataDir = await mkdtemp(join(tmpdir(), 'portico-replay-'))
  const started: GatewayProcess[] = []
  try {
    await body(async (port) => {
      const gateway = await spawnGateway({ runtime, config, dataDir, port })
      started.push(gateway)
      return gateway
    })
  } finally {
    for (const gateway of started) await gateway.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function emit(gateway: GatewayProcess, body: { from: number; to: number; type?: string; principal?: string; rollback?: boolean }) {
  const response = await gateway.fetch('/emit', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  if (!response.ok) throw new Error(await response.text())
}

const numbers = (events: readonly { event: string; data: string }[]) =>
  events.filter(({ event }) => event === 'emitter:said').map(({ data }) => JSON.parse(data).n as number)
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const stream = '/api/events?types=emitter:*'

describe.each(runtimes)('events on %s', (runtime) => {
  test('a reader that comes back with Last-Event-ID after a restart gets every durable event once and in order', async () => {
    await withGateways(runtime, async (start) => {
      const first = await start()
      const reader = readSse(await first.fetch(stream))
      await reader.waitFor('ready')
      await emit(first, { from: 1, to: 20 })
      await reader.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 20)
      expect(numbers(reader.events)).toEqual(range(1, 20))
      const resumeAt = reader.events.find(({ data }) => data === '{"n":10}')?.id as string
      expect(await first.stop()).toBe(0)
      await reader.ended

      const second = await start()
      await emit(second, { from: 21, to: 30 })
      const again = readSse(await second.fetch(stream, { headers: { 'last-event-id': resumeAt } }))
      await emit(second, { from: 31, to: 35 })
      await again.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 35)
      expect(numbers(again.events)).toEqual(range(11, 35))
      expect(again.events[0]).toMatchObject({ event: 'ready', id: resumeAt })
      await again.close()
    })
  }, 180_000)

  test('a client that was cut before its first event resumes at the cursor that ready gave it', async () => {
    await withGateways(runtime, async (start) => {
      const gateway = await start()
      const cut = readSse(await gateway.fetch(stream))
      const ready = await cut.waitFor('ready')
      expect(JSON.parse(ready.data).cursor).toBe(ready.id)
      await cut.close()
      await emit(gateway, { from: 1, to: 5 })
      const back = readSse(await gateway.fetch(`${stream}&since=${ready.id}`))
      await back.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 5)
      expect(numbers(back.events)).toEqual(range(1, 5))
      await back.close()
    })
  }, 180_000)

  test('what a transaction rolled back is never seen, live events have no id, and a durable subscription continues after kill -9', async () => {
    await withGateways(runtime, async (start) => {
      const gateway = await start()
      const reader = readSse(await gateway.fetch(stream))
      await reader.waitFor('ready')
      await emit(gateway, { from: 1, to: 3, rollback: true })
      await emit(gateway, { from: 7, to: 7, type: 'ticked' })
      await emit(gateway, { from: 4, to: 6 })
      await reader.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 6)
      expect(numbers(reader.events)).toEqual([4, 5, 6])
      const live = reader.events.find(({ event }) => event === 'emitter:ticked')
      expect(live?.data).toBe('{"n":7}')
      await gateway.kill9()

      const next = await start()
      const seen = async () => ((await (await next.fetch('/emit/seen')).json()) as { seen: number[] }).seen
      const resumed = readSse(await next.fetch('/api/events?types=emitter:*&since=1-0'))
      await emit(next, { from: 8, to: 9 })
      await resumed.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 9)
      expect(numbers(resumed.events)).toEqual([4, 5, 6, 8, 9])
      const deadline = Date.now() + 15_000
      while (!(await seen()).includes(9) && Date.now() < deadline) await Bun.sleep(50)
      // At least once: what was handled but not yet noted before the kill may come again, in order, and nothing is skipped.
      const after = await seen()
      expect(after.slice(-2)).toEqual([8, 9])
      expect([...after]).toEqual([...after].sort((a, b) => a - b))
      await resumed.close()
    })
  }, 180_000)

  test('nobody sees an event beyond his scopes, or of another principal', async () => {
    await withGateways(runtime, async (start) => {
      const gateway = await start()
      const create = async (name: string) => {
        const response = await gateway.fetch('/api/keys', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name }) })
        return (await response.json()) as { id: string; key: string }
      }
      const [alice, bob] = [await create('alice'), await create('bob')]
      const whoami = await (await fetch(`${gateway.url}/api/v1/auth/whoami`, { headers: { authorization: `Bearer ${alice.key}` } })).json()
      const read = async (key: string) => {
        const reader = readSse(await fetch(`${gateway.url}${stream}`, { headers: { authorization: `Bearer ${key}` } }))
        await reader.waitFor('ready')
        return reader
      }
      const [hers, his, ours] = [await read(alice.key), await read(bob.key), await read(gateway.token)]
      await emit(gateway, { from: 1, to: 1, type: 'whispered' })
      await emit(gateway, { from: 2, to: 2, principal: (whoami as { id: string }).id })
      await emit(gateway, { from: 3, to: 3 })
      for (const reader of [hers, his, ours]) await reader.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 3)
      const seen = (reader: typeof hers) => reader.events.slice(1).map(({ event, data }) => `${event} ${JSON.parse(data).n}`)
      expect(seen(hers)).toEqual(['emitter:said 2', 'emitter:said 3'])
      expect(seen(his)).toEqual(['emitter:said 3'])
      expect(seen(ours)).toEqual(['emitter:whispered 1', 'emitter:said 2', 'emitter:said 3'])

      const revoked = performance.now()
      await gateway.fetch(`/api/keys/${alice.id}`, { method: 'DELETE' })
      await hers.ended
      expect(performance.now() - revoked).toBeLessThan(1_000)
      expect((await fetch(`${gateway.url}/v1/models`, { headers: { authorization: `Bearer ${alice.key}` } })).status).toBe(401)
      for (const reader of [his, ours]) await reader.close()
    })
  }, 180_000)
})
