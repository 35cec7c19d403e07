import { afterAll, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commandName } from './command-name.ts'

const root = mkdtempSync(join(tmpdir(), 'portico-name-'))
afterAll(() => rmSync(root, { recursive: true }))
const folder = (name: string, ...files: string[]) => {
  mkdirSync(join(root, name), { recursive: true })
  for (const file of files) writeFileSync(join(root, name, file), '')
  return join(root, name)
}
const own = folder('own/bin', 'bun', 'deno')
const ofOthers = [folder('x/node_modules/.bin', 'bun', 'deno'), folder('bun-node-a7733435c', 'bun')].join(':')

test.each([
  ['bun', true, `${ofOthers}:${own}`, 'bun run portico'],
  ['deno', true, own, 'deno task portico'],
  ['bun', true, ofOthers, 'npx -y bun@1.2.3 run portico'],
  ['deno', true, ofOthers, 'npx -y deno@1.2.3 task portico'],
  ['bun', false, ofOthers, 'portico'],
] as const)('%s, in a checkout %p, with this PATH: %p', (runtime, inCheckout, path, name) => {
  expect(commandName({ inCheckout, isBehindTool: false, runtime, version: '1.2.3', path })).toBe(name)
})

test('behind npx it is npx', () => {
  expect(commandName({ inCheckout: false, isBehindTool: true, runtime: 'bun', version: '1.2.3', path: '' })).toBe('npx portico')
})
