/** A stop in the middle of everything: it keeps its deadline, and what was acknowledged is there afterwards. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

const emitter = fileURLToPath(new URL('../fixtures/plugins/emitter.ts', import.meta.url))
const json = { 'content-type': 'application/json' }
const deadline = 1_000

let upstream: Upstream
beforeAll(async () => {
  upstream = await startUpstream()
})
afterAll(() => upstream.stop())

describe.each(runtimes)('on %s', (runtime) => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s under load: exit 0 within the deadline, whatever hangs; every acknowledged event is in the log, once',
    async (signal) => {
      const dataDir = await mkdtemp(join(tmpdir(), 'portico-stop-'))
      const provider = `[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\nmodels = ["m"]\n`
      const config = `plugins = [${JSON.stringify(emitter)}]\n[gateway]\nshutdownDeadlineMs = ${deadline}\n${provider}`
      const sockets: Socket[] = []
      const gateway = await spawnGateway({ runtime, config, dataDir })
      try {
        const { hostname, port } = new URL(gateway.url)
        const raw = (text: string) => {
          const socket = connect(Number(port), hostname).on('error', () => undefined)
          socket.pause()
          socket.write(text)
          sockets.push(socket)
        }
        const head = `Host: ${hostname}:${port}\r\nAuthorization: Bearer ${gateway.token}\r\n`
        // Readers that never read, requests that never end, connections that say nothing.
        for (let n = 0; n < 3; n++) {
          raw(`GET /api/events HTTP/1.1\r\n${head}\r\n`)
          raw(`POST /v1/chat/completions HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"model`)
          raw('GET / HTTP/1.1\r\nHost: ')
          raw('')
        }
        const chat = (stream: boolean) =>
          gateway
            .fetch('/v1/chat/completions', {
              method: 'POST',
              headers: json,
              body: JSON.stringify({ model: 'local/m', stream, messages: [{ role: 'user', content: 'a b c d' }] }),
            })
            .then(async (answer) => ({ status: answer.status, text: await answer.text() }))
            .catch(() => ({ status: 0, text: 'cut' }))
        upstream.script({ hang: 'head' }, { path: '/v1/chat' })
        const answers = [chat(false)]
        await upstream.waitForRequest()
        upstream.script({ hang: { frames: 2 } }, { path: '/v1/chat', times: 2 })
        answers.push(chat(true), chat(true))
        for (let n = 0; n < 2; n++) await upstream.waitForRequest()
        const readers = await Promise.all(Array.from({ length: 5 }, async () => readSse(await gateway.fetch('/api/events'))))
        for (const reader of readers) await reader.waitFor('ready')

        const acknowledged: number[] = []
        const tried: number[] = []
        let isGone = false
        const writers = Array.from({ length: 4 }, async (_, writer) => {
          for (let n = writer * 100_000; !isGone; n++) {
            tried.push(n)
            const answer = await gateway.fetch('/emit', { method: 'POST', headers: json, body: JSON.stringify({ from: n, to: n }) }).catch(() => null)
            if (answer?.ok) acknowledged.push(n)
            if (answer === null || answer.status === 503) isGone = true
          }
        })
        await readers[0]?.waitFor('emitter:said', () => acknowledged.length >= 50)
        const began = performance.now()
        process.kill(gateway.pid, signal)
        expect(await gateway.exited, gateway.stderr).toBe(0)
        expect(performance.now() - began).toBeLessThan(deadline + 3_000)
        isGone = true
        await Promise.all([...writers, ...readers.map(({ ended }) => ended)])
        const [whole, ...streams] = await Promise.all(answers)
        expect(whole?.status).toBe(503)
        for (const { text: streamed } of streams) {
          expect(streamed).toContain('"error"')
          expect(streamed).not.toContain('[DONE]')
        }
        expect(gateway.stderr).not.toMatch(/\[(ERR|FTL)\]/)

        const again = await spawnGateway({ runtime, config, dataDir })
        try {
          await again.fetch('/emit', { method: 'POST', headers: json, body: '{"from":999999,"to":999999}' })
          const replay = readSse(await again.fetch('/api/events?types=emitter:*&since=1-0'))
          await replay.waitFor('emitter:said', ({ data }) => JSON.parse(data).n === 999_999, 10_000)
          const seen = replay.events.filter(({ event }) => event === 'emitter:said').map(({ data }) => JSON.parse(data).n as number)
          await replay.close()
          expect(new Set(seen).size).toBe(seen.length)
          expect(acknowledged.filter((n) => !seen.includes(n))).toEqual([])
          expect(seen.filter((n) => !tried.includes(n) && n !== 999_999)).toEqual([])
        } finally {
          expect(await again.stop()).toBe(0)
        }
      } finally {
        for (const socket of sockets) socket.destroy()
        await gateway.stop()
        await rm(dataDir, { recursive: true, force: true })
        upstream.reset()
      }
    },
    30_000,
  )
})
