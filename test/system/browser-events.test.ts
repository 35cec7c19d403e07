import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { launchChromium } from '../fixtures/chromium.ts'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'

let browser: Browser
beforeAll(async () => {
  browser = await launchChromium()
}, 300_000)
afterAll(() => browser?.close())

async function call(gateway: GatewayProcess, path: string, body: unknown, token: string = gateway.token) {
  const response = await fetch(new URL(path, gateway.url), {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as Record<string, string>
}

describe.each(runtimes)('a browser’s EventSource with a ticket, on %s', (runtime) => {
  test('gets every durable event once and in order, also over a restart of the gateway', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'portico-browser-'))
    let gateway = await spawnGateway({ runtime, dataDir })
    const page = await browser.newPage()
    try {
      const { key } = await call(gateway, '/api/keys', { scopes: ['admin'], name: 'browser' })
      const { url } = await call(gateway, '/api/tickets', { path: '/api/events?types=key:created' }, key)
      await page.goto(new URL('/health', gateway.url).href)
      await page.evaluate((address) => {
        const it = Object.assign(globalThis, { got: [] as string[], readies: 0 })
        const source = new EventSource(address as string)
        source.addEventListener('ready', () => it.readies++)
        source.addEventListener('key:created', (event) => it.got.push(JSON.parse(event.data).name))
      }, url)
      const readies = (n: number) => page.waitForFunction((least) => (globalThis as any).readies >= (least as number), n)
      const got = async (n: number): Promise<string[]> => {
        await page.waitForFunction((least) => (globalThis as any).got.length >= (least as number), n)
        return page.evaluate(() => (globalThis as any).got)
      }
      await readies(1)
      await call(gateway, '/api/keys', { name: 'first' })
      expect(await got(1)).toEqual(['first'])

      const port = Number(new URL(gateway.url).port)
      await gateway.stop()
      gateway = await spawnGateway({ runtime, dataDir, port })
      await call(gateway, '/api/keys', { name: 'second' })
      await call(gateway, '/api/keys', { name: 'third' })
      expect(await got(3)).toEqual(['first', 'second', 'third'])

      await gateway.kill9()
      gateway = await spawnGateway({ runtime, dataDir, port })
      await call(gateway, '/api/keys', { name: 'fourth' })
      expect(await got(4)).toEqual(['first', 'second', 'third', 'fourth'])
    } finally {
      await page.close()
      await gateway.stop()
      await rm(dataDir, { recursive: true, force: true })
    }
  }, 180_000)
})
