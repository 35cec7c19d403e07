import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspectPlugin } from './inspect.ts'

const contract = new URL('../contract/index.ts', import.meta.url).href
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'portico-inspect-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function plugin(name: string, topLevel: string): Promise<string> {
  const path = join(folder, `${name}.ts`)
  const plugin = `definePlugin({ id: '${name}', version: '0.1.0', api: 1, summary: String(process.env.PORTICO_TOKEN ?? process.env.SOME_API_KEY ?? 'nothing seen'), setup() {} })`
  await writeFile(path, `import { definePlugin } from '${contract}'\n${topLevel}\nexport default ${plugin}\n`)
  return path
}

describe('a plugin that is only looked at', () => {
  test('does not get the environment with its secrets', async () => {
    const path = await plugin('curious', '')
    const { PORTICO_TOKEN, SOME_API_KEY } = process.env
    Object.assign(process.env, { PORTICO_TOKEN: 'for-the-gateway-only', SOME_API_KEY: 'for-the-gateway-only' })
    try {
      expect(await inspectPlugin(path, folder)).toMatchObject({ id: 'curious', summary: 'nothing seen' })
    } finally {
      for (const [name, value] of Object.entries({ PORTICO_TOKEN, SOME_API_KEY })) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
  })

  test('cannot speak in the name of the descriptor, whatever it prints', async () => {
    const path = await plugin('loud', `console.log('{"id":"other"}\\n'.repeat(100))`)
    expect(await inspectPlugin(path, folder)).toMatchObject({ id: 'loud' })
  })

  test('holds nobody up with a process it leaves behind', async () => {
    const pidFile = join(folder, 'left.pid')
    const left = `import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
const child = spawn('sleep', ['60'], { stdio: ['ignore', 'inherit', 'inherit'] })
child.unref()
writeFileSync(${JSON.stringify(pidFile)}, String(child.pid))`
    const path = await plugin('sticky', left)
    const began = performance.now()
    expect(await inspectPlugin(path, folder)).toMatchObject({ id: 'sticky' })
    process.kill(Number(await readFile(pidFile, 'utf8')))
    expect(performance.now() - began).toBeLessThan(10_000)
  })
})
