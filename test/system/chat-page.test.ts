/** The chat page in a real browser: what a person does there, from the pairing to the revoked key. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { launchChromium } from '../fixtures/chromium.ts'
import { type GatewayProcess, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

/** Where the screenshots are put, to be looked at: PORTICO_SCREENSHOTS. */
const shots = process.env.PORTICO_SCREENSHOTS

let browser: Browser
beforeAll(async () => {
  browser = await launchChromium()
}, 300_000)
afterAll(() => browser?.close())

describe.each(runtimes)('the page, on %s', (runtime) => {
  let gateway: GatewayProcess
  let upstream: Upstream
  let context: BrowserContext
  let page: Page
  const troubles: string[] = []
  beforeAll(async () => {
    upstream = await startUpstream()
    gateway = await spawnGateway({
      runtime,
      config: `[models.providers.local]\ntype = "openai-compatible"\nbaseUrl = "${upstream.url}"\n[agents.list.parrot]\nmodel = "demo/echo"\n`,
    })
    context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
    page = await context.newPage()
    page.setDefaultTimeout(15_000)
    page.on('pageerror', (error) => troubles.push(error.message))
    page.on('console', (message) => {
      if (/Content Security Policy|Uncaught/i.test(message.text())) troubles.push(message.text())
    })
  }, 60_000)
  afterAll(async () => {
    await context?.close()
    await gateway?.stop()
    await upstream?.stop()
  })

  const say = async (text: string) => {
    await page.fill('#message', text)
    await page.keyboard.press('Enter')
  }
  const complete = (count: number) => page.waitForFunction((n) => document.querySelectorAll('#messages > .assistant:not(.writing)').length === n, count)

  test('a browser that comes to / is led there, and pairs with the code of the terminal', async () => {
    await page.goto(gateway.url)
    expect(new URL(page.url()).pathname).toBe('/app/')
    // A header cannot hold it; the gateway is not asked.
    await page.fill('#secret', 'ABCD–2345')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.querySelector('#welcome-error')?.textContent?.includes('neither a code nor a key'))
    await page.fill('#secret', 'WRNG-CODE')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.querySelector('#welcome-error')?.textContent?.includes('This is not the pairing code'))
    await page.fill('#secret', /Pairing +(\S+)/.exec(gateway.stdout)?.[1] ?? '')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#composer')
    const { keys } = (await (await gateway.fetch('/api/keys')).json()) as { keys: { kind: string; name: string }[] }
    expect(keys.map(({ kind, name }) => `${kind} ${name}`)).toEqual(['device Chrome on Linux'])
  })

  test('chats with a local model server and with demo/echo, in Markdown that cannot run anything', async () => {
    expect(await page.inputValue('#model')).toBe('local/mock-large')
    await say('hello local')
    await complete(1)
    expect(await answers(page)).toEqual(['hello local'])
    await page.selectOption('#model', 'demo/echo')
    const attack =
      '**bold** <img src=x onerror="document.title=1"><script>document.title=2</script> [x](javascript:document.title=3) <a href="https://e.example" onclick="x()">y</a>'
    await say(attack)
    await complete(2)
    const content = page.locator('#messages > .assistant .text').last()
    expect(await content.locator('strong').textContent()).toBe('bold')
    expect(await content.locator('img, script, [onclick], [onerror], a[href^=javascript]').count()).toBe(0)
    expect(await content.textContent()).toContain('<script>document.title=2</script>')
    expect(await content.locator('a').getAttribute('rel')).toBe('noopener noreferrer nofollow')
    expect(await page.title()).toBe('Portico')
  })

  test('stops an answer, keeps what came over a reload, and goes on in the conversation', async () => {
    await page.selectOption('#model', 'local/mock-small')
    upstream.script({ hang: { frames: 4 } }, { path: '/v1/chat' })
    await say('a very long story')
    await page.waitForFunction(() => document.querySelector('#messages > .writing .text')?.textContent?.includes('a very'))
    await page.click('#stop')
    await complete(3)
    await upstream.idle()
    await page.waitForFunction(() => document.querySelector('#messages > li:last-child .cut')?.textContent === 'Stopped.')
    await page.reload()
    await complete(3)
    expect(await page.locator('#messages > li:last-child').textContent()).toContain('Stopped.')
    expect(await page.locator('#messages > .user').count()).toBe(3)
    await say('and then')
    await complete(4)
    expect((await answers(page)).at(-1)).toBe('and then')
    await page.click('#sessions-button')
    await page.waitForSelector('#session-list li')
    expect(await page.locator('#session-list button[data-key]').allTextContents()).toEqual(['hello local'])
    await page.click('#sessions-button')
  })

  test('says what went wrong in words, and gives the message back', async () => {
    upstream.script({ status: 500, body: '{}' }, { path: '/v1/chat' })
    await say('this fails')
    await page.waitForFunction(() => document.querySelector('#chat-error')?.textContent?.includes('answered 500'))
    expect(await page.inputValue('#message')).toBe('this fails')
    await page.fill('#message', '')
  })

  test('is not held up by what a model writes: nested too deeply, with images, long', async () => {
    await page.click('#sessions-button')
    await page.click('#new-session')
    await page.selectOption('#model', 'demo/echo')
    await say(`${'>'.repeat(5_000)}deep`)
    await complete(1)
    expect((await answers(page))[0]).toEndWith('>deep')
    await say('![a cat](https://e.example/cat.png) and\n\n- [x] done')
    await complete(2)
    const last = page.locator('#messages > .assistant .text').last()
    expect(await last.locator('a').getAttribute('href')).toBe('https://e.example/cat.png')
    expect(await last.textContent()).toContain('☑ done')
    expect(await page.isEnabled('#send')).toBe(true)
  })

  test('shows the images of a message after a reload, and that there was one that was too large', async () => {
    await page.evaluate(async () => {
      const images = ['data:image/gif;base64,R0lGODlhAQABAAAAACw=', `data:image/png;base64,${'A'.repeat(1_000_001)}`]
      const body = JSON.stringify({ message: 'look', model: 'demo/echo', sessionKey: localStorage.getItem('portico.session'), images })
      const headers = { authorization: `Bearer ${localStorage.getItem('portico.key')}`, 'content-type': 'application/json' }
      await fetch('/api/chat', { method: 'POST', headers, body })
    })
    await page.reload()
    await complete(3)
    const shown = page.locator('#messages > .user').last()
    expect([await shown.locator('img').count(), await shown.locator('.cut').textContent()]).toEqual([1, 'An image, too large to be kept'])
  })

  test('of two conversations that are opened in haste the second is shown', async () => {
    const isOpen = await page.isVisible('#sessions')
    if (!isOpen) await page.click('#sessions-button')
    const [latest, first] = [page.locator('#session-list button[data-key]').first(), page.locator('#session-list button[data-key]').last()]
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    await latest.waitFor()
    const key = await latest.getAttribute('data-key')
    await page.route(`**/api/chat/history?*${key}`, async (route) => {
      const response = await route.fetch()
      await held
      await route.fulfill({ response })
    })
    const late = page.waitForResponse((response) => response.url().endsWith(`${key}`))
    await latest.click()
    await first.click()
    await page.waitForFunction(() => document.querySelector('#messages > .user .text')?.textContent === 'hello local')
    release()
    await (await late).finished()
    // One more answer of the gateway: what was late has been read by then.
    await page.evaluate(() => fetch('/health').then((response) => response.text()))
    await page.unrouteAll()
    expect(await page.locator('#messages > .user .text').first().textContent()).toBe('hello local')
    expect(await page.locator('#messages > .user .text').last().textContent()).not.toBe('look')
    await page.click('#sessions-button')
  })

  test('watches events live, with a ticket in the URL and never the key', async () => {
    const urls: string[] = []
    page.on('request', (request) => urls.push(request.url()))
    await page.click('#events-button')
    await page.waitForFunction(() => document.querySelector('#events-state')?.textContent === 'live')
    // Of the one that failed the history knows too.
    expect(await page.locator('#messages > .assistant').count()).toBe(5)
    await say('an event')
    await complete(6)
    await page.waitForFunction(() => document.querySelector('#event-list li b')?.textContent === 'message:sent')
    expect(urls.some((url) => url.includes('ticket=tkt_'))).toBe(true)
    expect(urls.filter((url) => url.includes('ptk_'))).toEqual([])
    await page.click('#events-button')
  })

  test('is accessible, in light and dark, wide and at 360 px', async () => {
    const found: string[] = []
    // The page is the same bytes on both runtimes, so the second one has the narrow half.
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of runtime === 'bun' ? [1280, 360] : [360]) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
        await page.setViewportSize({ width, height: 800 })
        if (width === 1280) for (const panel of ['#sessions-button', '#events-button']) await page.click(panel)
        const { violations } = await new AxeBuilder({ page }).analyze()
        found.push(...violations.map(({ id, nodes }) => `${colorScheme} ${width} ${id} ${nodes.map(({ html }) => html).join(' ')}`))
        const wide = () => [document.documentElement, ...document.querySelectorAll('#sessions, #events')].filter((box) => box.scrollWidth > box.clientWidth)
        expect(await page.evaluate(`(${wide})().map(({ id }) => id)`)).toEqual([])
        if (shots) {
          mkdirSync(shots, { recursive: true })
          await page.screenshot({ path: join(shots, `chat-${runtime}-${colorScheme}-${width}.png`) })
        }
        if (width === 1280) for (const panel of ['#sessions-button', '#events-button']) await page.click(panel)
      }
    expect(found).toEqual([])
    await page.setViewportSize({ width: 1280, height: 800 })
  })

  test('is used with the keyboard alone', async () => {
    await page.reload()
    await page.waitForSelector('#composer')
    await page.waitForFunction(() => document.activeElement?.id === 'message')
    await page.keyboard.type('typed')
    await page.keyboard.press('Shift+Enter')
    await page.keyboard.type('twice')
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('send')
    await page.keyboard.press('Enter')
    // Of the one that failed the history knows too.
    await complete(7)
    expect(await page.locator('#messages > .user .text').last().textContent()).toBe('typed\ntwice')
  })

  test('an agent is chosen like a model, stands behind the models, and answers for itself', async () => {
    if (!(await page.isVisible('#sessions'))) await page.click('#sessions-button')
    await page.click('#new-session')
    await page.waitForFunction(() => document.querySelectorAll('#messages > *').length === 0)
    expect(await page.locator('#model optgroup[label=Agents] option').allTextContents()).toEqual(['agent/parrot'])
    await page.selectOption('#model', 'agent/parrot')
    await say('to the agent')
    await complete(1)
    await page.selectOption('#model', 'local/mock-large')
    await say('to a model')
    await complete(2)
    const { data } = (await (await gateway.fetch('/v1/runs?limit=2')).json()) as { data: { agent_id: string; model: string }[] }
    expect(data.map(({ agent_id, model }) => `${agent_id} ${model}`)).toEqual(['default local/mock-large', 'parrot demo/echo'])
  })

  test('with a revoked key it leads back to the pairing, and a key can be pasted instead', async () => {
    const { keys } = (await (await gateway.fetch('/api/keys')).json()) as { keys: { id: string }[] }
    await gateway.fetch(`/api/keys/${keys[0]?.id}`, { method: 'DELETE' })
    await say('one more')
    await page.waitForSelector('#pair-form')
    expect(await page.textContent('#welcome-error')).toContain('Pair this device again')
    expect(await page.evaluate(() => document.querySelectorAll('#messages > *, #session-list > *, #event-list > *, #model > *').length)).toBe(0)
    const { violations } = await new AxeBuilder({ page }).analyze()
    expect(violations.map(({ id }) => id)).toEqual([])
    const made = await gateway.fetch('/api/keys', { method: 'POST', body: '{"name":"pasted"}', headers: { 'content-type': 'application/json' } })
    const { key } = (await made.json()) as { key: string }
    await page.fill('#secret', key)
    await page.uncheck('#remember')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#composer')
    expect(await page.evaluate(() => [localStorage.getItem('portico.key'), sessionStorage.getItem('portico.key') !== null])).toEqual([null, true])
    expect(troubles).toEqual([])
  })

  test('signing out in one tab signs the others out', async () => {
    const made = await gateway.fetch('/api/keys', { method: 'POST', body: '{"name":"tabs"}', headers: { 'content-type': 'application/json' } })
    const { key } = (await made.json()) as { key: string }
    const tabs = await browser.newContext()
    const [one, two] = [await tabs.newPage(), await tabs.newPage()]
    await one.goto(`${gateway.url}/app/`)
    await one.fill('#secret', key)
    await one.keyboard.press('Enter')
    await one.waitForSelector('#composer')
    await two.goto(`${gateway.url}/app/`)
    await two.waitForSelector('#composer')
    await one.evaluate(() => document.getElementById('sign-out')?.click())
    await two.waitForSelector('#pair-form')
    expect(await two.evaluate(() => localStorage.length + sessionStorage.length)).toBe(0)
    await tabs.close()
  })
})

/** The texts of the answers. */
async function answers(page: Page): Promise<string[]> {
  return (await page.locator('#messages > .assistant .text').allTextContents()).map((text) => text.trim())
}
