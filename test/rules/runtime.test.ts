import { describe, expect, test } from 'bun:test'
import { fetchers, ownFetches, runtimeNames } from './runtime.ts'
import { isTest, projectFiles, report } from './source.ts'

const files = projectFiles().filter((file) => /^(kernel|plugins|channels)\//.test(file.path) && !isTest(file.path))
const fetches = (text: string) => ownFetches({ path: 'x.ts', text }).length
const names = (text: string) => runtimeNames({ path: 'x.ts', text }).length

describe("the runtime's own fetch", () => {
  test('is called only where addresses are the operator’s', () => {
    expect(files.length).toBeGreaterThan(20)
    report('fetch', files.filter((file) => !fetchers.some((allowed) => allowed.test(file.path))).flatMap(ownFetches))
  })

  test.each([
    ["await fetch('http://x')", 1],
    ['return ok ? fetch(url) : other', 1],
    ['globalThis.fetch(url)', 1],
    ['const get = fetch\n', 1],
    ['run({ load: fetch })', 1],
    ['gateway.fetch(url)', 0],
    ['const app = { async fetch(request: Request) { return x } }', 0],
    ['interface X { fetch(path: string, init?: RequestInit): Promise<Response> }', 0],
    ['const { fetch } = context\nawait fetch(path)', 0],
    ["// fetch(url)\nconst text = 'fetch(url)'", 0],
  ])('is told from methods of that name: %s', (text, count) => expect(fetches(text)).toBe(count))
})

describe('the runtime is named', () => {
  test('only in kernel/runtime, and in tests', () => {
    report('Bun and Deno', files.filter((file) => !file.path.startsWith('kernel/runtime/')).flatMap(runtimeNames))
  })

  test.each([
    ['Bun.serve({})', 1],
    ['globalThis.Deno?.version', 1],
    ['const x = typeof Bun', 1],
    ["process.versions.bun // Bun is fast\nconst say = 'Deno'", 0],
  ])('and a planted one bites: %s', (text, count) => expect(names(text)).toBe(count))
})
