/** `init`, `plugins new` and `plugins link`, as people and scripts use them. */
import { afterAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runPortico, runtimePath, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { openTerminal } from '../fixtures/terminal.ts'

const checkout = join(import.meta.dir, '../..')
const main = join(checkout, 'kernel/cli/main.ts')
const root = mkdtempSync(join(tmpdir(), 'portico-authoring-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const folder = () => mkdtempSync(join(root, `${folders++}-`))

async function run(command: string[], cwd: string): Promise<{ code: number; out: string }> {
  const child = Bun.spawn(command, { cwd, stdout: 'pipe', stderr: 'pipe', env: { ...process.env, NO_COLOR: '1' } })
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited])
  return { code, out: out + err }
}

describe.each(runtimes)('on %s', (runtime) => {
  const portico = (cwd: string, ...args: string[]) => runPortico(args, { runtime, cwd })
  const command = (...args: string[]) => [runtimePath(runtime), ...(runtime === 'deno' ? ['run', '-A'] : []), main, ...args]

  describe('init', () => {
    test('without questions writes what config check accepts, for its owner alone, and nothing over what is there', async () => {
      const cwd = folder()
      const { code, stdout } = await portico(cwd, 'init', '--yes', '--json')
      expect([code, JSON.parse(stdout)]).toEqual([
        0,
        { file: join(cwd, 'portico.toml'), port: 4766, provider: 'found', baseUrl: expect.any(String), pairing: true, database: '' },
      ])
      expect(statSync(join(cwd, 'portico.toml')).mode & 0o777).toBe(0o600)
      expect(await portico(cwd, 'config', 'check')).toMatchObject({ code: 0, stdout: expect.stringContaining('good') })
      const again = await portico(cwd, 'init', '--yes')
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('--force')])
      expect((await portico(cwd, 'init', '--yes', '--force')).code).toBe(0)
      const nobody = await portico(folder(), 'init')
      expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining('--yes')])
    })

    test('asks a person, says what an answer should be, and writes what was said', async () => {
      const cwd = folder()
      const terminal = openTerminal(command('init'), { cwd })
      try {
        for (const [asked, answer] of [
          ['Port?', 'many\r'],
          ['A number from 0 to 65535.', ''],
          ['Port?', '8123\r'],
          ['Models from?', 'openai-compatible\r'],
          ['Its address?', 'http://127.0.0.1:9000/v1\r'],
          ['Show a pairing code', 'no\r'],
          ['Database?', 'DATABASE_URL\r'],
        ] as const) {
          await terminal.see(asked)
          terminal.type(answer)
        }
        await terminal.see('Wrote ')
        expect(await terminal.exited).toBe(0)
      } finally {
        terminal.kill()
      }
      const text = readFileSync(join(cwd, 'portico.toml'), 'utf8')
      for (const line of [
        'port = 8123',
        'requirePairing = false',
        'type = "openai-compatible"',
        'baseUrl = "http://127.0.0.1:9000/v1"',
        'url = "env:DATABASE_URL"',
      ])
        expect(text).toContain(line)
      expect((await runPortico(['config', 'check'], { runtime, cwd, env: { DATABASE_URL: 'postgres://127.0.0.1/x' } })).code).toBe(0)
    })

    test('Ctrl-C leaves nothing behind', async () => {
      const cwd = folder()
      const terminal = openTerminal(command('init'), { cwd })
      await terminal.see('Port?')
      terminal.type('\u0003')
      expect(await terminal.exited).toBe(1)
      expect(existsSync(join(cwd, 'portico.toml'))).toBe(false)
    })
  })

  describe('plugins new', () => {
    test('makes a plugin that passes its own test, and runs in a gateway that names its path', async () => {
      const cwd = folder()
      const { code, stdout, stderr } = await portico(cwd, 'plugins', 'new', 'my-greeter')
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toContain('cd my-greeter')
      const made = join(cwd, 'my-greeter')
      // On Bun the page for plugin authors has it tested: docs.test.ts.
      if (runtime === 'deno') {
        const tested = await run([join(checkout, 'node_modules/.bin/deno'), 'test', '-A', '--no-check'], made)
        expect([tested.code, tested.out]).toEqual([0, expect.stringMatching(/ok \| 6 passed/)])
      }
      await using gateway = await spawnGateway({ runtime, config: `plugins = [${JSON.stringify(made)}]\n[my-greeter]\nword = "Salve"\n` })
      expect(await (await gateway.fetch('/my-greeter/Roma')).json()).toEqual({ text: 'Salve, Roma' })
    }, 120_000)

    test('refuses a name that is none, and a folder that is there', async () => {
      const cwd = folder()
      for (const name of ['My-Plugin', 'a--b', '../x', '1st', 'a'.repeat(41)])
        expect([name, await portico(cwd, 'plugins', 'new', name)]).toEqual([name, { code: 1, stdout: '', stderr: expect.stringContaining('is no id') }])
      const { stdout } = await portico(cwd, 'plugins', 'new', 'one', '--dir', 'x/y', '--json')
      expect(JSON.parse(stdout)).toMatchObject({ id: 'one', folder: join(cwd, 'x/y'), files: expect.arrayContaining(['index.ts', 'index.test.ts']) })
      const again = await portico(cwd, 'plugins', 'new', 'one', '--dir', 'x/y')
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('exists already')])
    })
  })

  test('plugins link lets a folder find the package; what npm installed stays', async () => {
    const cwd = folder()
    const { code, stdout } = await portico(cwd, 'plugins', 'link', '.', '--json')
    expect([code, JSON.parse(stdout).folder]).toEqual([0, cwd])
    expect(existsSync(join(cwd, 'node_modules/portico/package.json'))).toBe(true)
    expect((await portico(cwd, 'plugins', 'link', '.')).code).toBe(0)
    expect((await portico(cwd, 'plugins', 'link', './nowhere')).code).toBe(1)
  })
})

test('the scaffolded plugin passes tsc and deno check', async () => {
  const cwd = folder()
  await runPortico(['plugins', 'new', 'checked'], { runtime: 'bun', cwd })
  const made = join(cwd, 'checked')
  expect(await run([join(checkout, 'node_modules/.bin/tsc'), '-p', '.'], made)).toEqual({ code: 0, out: '' })
  const deno = await run([join(checkout, 'node_modules/.bin/deno'), 'check', 'index.ts', 'index.test.ts'], made)
  expect([deno.code, deno.out]).toEqual([0, expect.any(String)])
}, 120_000)
