import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import manifest from '../../package.json'
import { chromiumPath, launchChromium } from '../fixtures/chromium.ts'
import { readmeBlocks, withInstalledBun } from '../fixtures/readme.ts'
import { root } from '../rules/source.ts'

const readme = readFileSync(`${root}/README.md`, 'utf8')

const dataDir = mkdtempSync(join(tmpdir(), 'portico-readme-'))
const env: Record<string, string | undefined> = { ...process.env, PORTICO_DATA_DIR: dataDir, PORTICO_PORT: '0', PORTICO_CONFIG: undefined, NO_COLOR: '1' }
const bun = `${root}/node_modules/.bin/bun`
/** As written, but on this test's port, and with the runtime that is installed already. */
const here = (text: string) => withInstalledBun(text).replaceAll('http://127.0.0.1:4766', url)

let url = ''
let gateway: Bun.Subprocess<'ignore', 'pipe', 'inherit'>
let browser: Browser
let key = ''

async function shell(script: string): Promise<string> {
  const child = Bun.spawn(['bash', '-euo', 'pipefail', '-c', script], { cwd: root, env, stdout: 'pipe', stderr: 'inherit' })
  const out = await new Response(child.stdout).text()
  expect(await child.exited).toBe(0)
  return out
}

beforeAll(async () => {
  await chromiumPath()
  const command = here(readmeBlocks('Start', 'sh')[0]).trim()
  gateway = Bun.spawn(['bash', '-c', `exec ${command}`], { cwd: root, env, stdout: 'pipe', stderr: 'inherit' })
  let said = ''
  for await (const chunk of gateway.stdout) {
    said += new TextDecoder().decode(chunk)
    url = /Listening +(http:\/\/127\.0\.0\.1:\d+)/.exec(said)?.[1] ?? ''
    if (url) break
  }
  expect(said).toContain('demo/echo')
}, 360_000)

afterAll(async () => {
  await browser?.close()
  // `bun run` hands no signal on: the gateway is told by itself.
  const run = JSON.parse(readFileSync(join(dataDir, 'run.json'), 'utf8')) as { pid: number }
  process.kill(run.pid, 'SIGTERM')
  await gateway.exited
  rmSync(dataDir, { recursive: true, force: true })
}, 240_000)

describe('what the README shows works as it stands there', () => {
  test('the commands: a key, the models, a chat completion', async () => {
    const out = await shell(`${here(readmeBlocks('Talk to it', 'sh')[0])}\necho; echo "KEY $GATEWAY_KEY"`)
    key = /KEY (\S+)/.exec(out)?.[1] ?? ''
    expect(key).not.toBe('')
    expect(out).toContain('"demo/echo"')
    expect(out).toContain('Hello, gateway')
  }, 180_000)

  test('the OpenAI SDK streams', async () => {
    const child = Bun.spawn([bun, '-e', here(readmeBlocks('Talk to it', 'ts')[0])], {
      cwd: root,
      env: { ...env, GATEWAY_KEY: key },
      stdout: 'pipe',
      stderr: 'inherit',
    })
    expect(await new Response(child.stdout).text()).toContain('Hello, gateway')
  }, 240_000)

  test("a browser's EventSource hears of a new key", async () => {
    browser = await launchChromium()
    const page = await browser.newPage()
    await page.goto(`${url}/`)
    page.on('dialog', (dialog) => void dialog.accept(key))
    const heard = page.waitForEvent('console', { predicate: (message) => message.text().startsWith('key:created'), timeout: 15_000 })
    // Opened before the key is made: `ready` comes when the gateway has subscribed the reader.
    await page.evaluate(`(async () => { ${readmeBlocks('Talk to it', 'js')[0]}; await new Promise((resolve) => events.addEventListener('ready', resolve)) })()`)
    await shell(`${bun} run --silent portico keys create another --json`)
    expect((await heard).text()).toMatch(/^key:created \d+-\d+ \{/)
  }, 180_000)
})

test('the README names the commands that exist', () => {
  const scripts: Record<string, string> = manifest.scripts
  const named = [...readme.matchAll(/bun@[\d.]+ run (?:--silent )?(\w+)/g)].map((match) => match[1] as string)
  expect(named).toContain('start')
  expect(named).toContain('verify')
  for (const name of named) expect(scripts[name], name).toBeDefined()
})
