import { expect, test } from 'bun:test'
import { projectFiles, root } from '../rules/source.ts'

async function run(tool: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  const child = Bun.spawn([`${root}/node_modules/.bin/${tool}`, ...args], { cwd: root, stdout: 'pipe', stderr: 'pipe', env: { ...process.env, NO_COLOR: '1' } })
  const [code, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code, output: out + err }
}

test('tsc accepts the whole project, the refusals of the contract included', async () => {
  const { code, output } = await run('tsc', [])
  expect(output).toBe('')
  expect(code).toBe(0)
}, 60_000)

test('deno check accepts all code that runs on Deno, and the types of the contract', async () => {
  const files = projectFiles().map((file) => file.path)
  const shared = files.filter((path) => /^(kernel|plugins|channels)\//.test(path) && !path.endsWith('.test.ts') && path !== 'kernel/runtime/bun.ts')
  expect(shared.length).toBeGreaterThan(20)
  const { code, output } = await run('deno', ['check', '--quiet', ...shared, ...files.filter((path) => path.endsWith('.types.ts'))])
  expect(output).toBe('')
  expect(code).toBe(0)
}, 120_000)
