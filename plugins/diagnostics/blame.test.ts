import { describe, expect, test } from 'bun:test'
import { fileURLToPath } from 'node:url'
import { createBlame } from './blame.ts'

const here = fileURLToPath(new URL('../../kernel/boot/', import.meta.url))
const blame = createBlame([
  { plugin: 'alone', file: '/srv/alone/main.ts' },
  { plugin: 'first', file: '/srv/shared/first.ts' },
  { plugin: 'second', file: '/srv/shared/second.ts' },
  { plugin: 'folder', file: '/srv/folder/index.ts' },
  { plugin: 'inner', file: '/srv/folder/inner/index.ts' },
  { plugin: 'acme', file: '/srv/node_modules/@acme/portico-plugin/dist/index.js' },
])
const error = (...lines: string[]) => Object.assign(new Error('x'), { stack: ['Error: x', ...lines.map((line) => `    at ${line}`)].join('\n') })

describe('the stack of an error', () => {
  test('names the innermost plugin, as Bun and as Deno write frames', () => {
    const table: [string, string][] = [
      ['fail (/srv/alone/lib/deep.ts:3:9)', 'alone'],
      ['async run (file:///srv/alone/main.ts?version=2:3:9)', 'alone'],
      ['/srv/shared/second.ts:1:1', 'second'],
      ['<anonymous> (/srv/shared/first.ts:1:1)', 'first'],
      ['/srv/shared/common.ts:1:1', 'unknown plugin'],
      ['Object.setup (file:///srv/folder/routes.ts:7:1)', 'folder'],
      ['/srv/folder/inner/x.ts:7:1', 'inner'],
      ['/srv/node_modules/@acme/portico-plugin/dist/x.js:7:1', 'acme'],
      ['/srv/node_modules/@acme/other/x.js:7:1', 'unknown plugin'],
    ]
    for (const [frame, plugin] of table) expect(`${frame}: ${blame.ofError(error(frame))}`).toBe(`${frame}: ${plugin}`)
    expect(blame.ofError(error('emit (node:events:1:1)', '/srv/shared/first.ts:1:1', '/srv/alone/main.ts:1:1'))).toBe('first')
  })

  test('is the kernel’s only when there is nothing else in it than the kernel and the runtime', () => {
    expect(blame.ofError(error(`run (${here}start.ts:1:1)`, 'processTicks (node:internal/process:1:1)'))).toBe('kernel')
    expect(blame.ofError(error(`run (${here}start.ts:1:1)`, '/srv/node_modules/pg/lib/client.js:1:1'))).toBe('unknown plugin')
    expect(blame.ofError(error(`run (${here}start.ts:1:1)`, '/srv/alone/main.ts:1:1'))).toBe('alone')
    expect(blame.ofError(error('processTicks (node:internal/process:1:1)'))).toBe('unknown plugin')
    expect(blame.ofError('a string')).toBe('unknown plugin')
  })
})
