import { describe, expect, test } from 'bun:test'
import manifest from '../../package.json'
import { barrels, importCycles, importViolations, rooms } from './imports.ts'
import { importsOf, isTest, lex, linesOfCode, packageOf, projectFiles, report, resolveFrom } from './source.ts'

const packages = { runtime: new Set(Object.keys(manifest.dependencies)), dev: new Set(Object.keys(manifest.devDependencies)) }
const files = projectFiles().filter((file) => /^(kernel|plugins|channels|test)\//.test(file.path))
const planted = (path: string, text: string) => importViolations({ path, text }, packages)

describe('imports', () => {
  test('go only where the rooms allow', () => {
    const edges = files.reduce((sum, file) => sum + importsOf(file.text).length, 0)
    expect(edges).toBeGreaterThan(100)
    report(
      'imports',
      files.flatMap((file) => importViolations(file, packages)),
    )
  })

  test('of the AI SDK, and of what only tools need, are types, or wait for the first call', () => {
    const found = files
      .filter(({ path }) => !isTest(path))
      .flatMap(({ path, text }) => importsOf(text).flatMap((entry) => (/^(@ai-sdk\/|ai$|ajv|diff$|re2js$)/.test(entry.specifier) ? [{ path, ...entry }] : [])))
    expect(found.length).toBeGreaterThan(3)
    expect(found.filter(({ kind, types }) => kind !== 'dynamic' && !types)).toEqual([])
  })

  test('that a start waits for are of few packages: whatever else there is waits until it is needed', () => {
    const byPath = new Map(files.map((file) => [file.path, file]))
    const seen = new Set<string>()
    const packages = new Set<string>()
    const visit = (path: string) => {
      const file = byPath.get(path)
      if (!file || seen.has(path)) return
      seen.add(path)
      for (const { specifier, kind, types } of importsOf(file.text)) {
        if (kind === 'dynamic' || types || specifier.startsWith('node:')) continue
        if (specifier.startsWith('.')) visit(resolveFrom(path, specifier))
        else if (specifier === 'portico') visit('kernel/contract/index.ts')
        else if (specifier.startsWith('portico/')) visit(`${specifier.slice('portico/'.length)}/contract.ts`)
        else packages.add(packageOf(specifier))
      }
    }
    const begun = ['kernel/cli/main.ts', 'kernel/cli/start.ts', 'kernel/boot/start.ts', 'kernel/cli/log.ts', 'plugins/builtins.ts']
    for (const path of [...begun, ...[...byPath.keys()].filter((path) => /^plugins\/[^/]+\/index\.ts$/.test(path))]) visit(path)
    expect(seen.size).toBeGreaterThan(200)
    expect([...packages].sort()).toEqual(['@logtape/logtape', '@sinclair/typebox', 'drizzle-orm', 'elysia', 'exsolve', 'pg', 'smol-toml'])
  })

  test('make no ring, and no barrel but the public entries', () => {
    report('rings and barrels', [...importCycles(files), ...barrels(files)])
  })

  test('the scan sees whatever the transpiler sees', () => {
    const transpiler = new Bun.Transpiler({ loader: 'ts' })
    const missed = files.flatMap((file) => {
      const own = new Set(importsOf(file.text).map((entry) => entry.specifier))
      return transpiler
        .scanImports(file.text.replace(/^#!.*/, ''))
        .filter((entry) => !own.has(entry.path))
        .map((entry) => `${file.path} imports ${entry.path}, and the scan did not see it`)
    })
    report('the scan', missed)
  })

  test('every room of the table exists, and none imports a room that imports it', () => {
    for (const room of Object.keys(rooms))
      expect(
        files.some((file) => file.path.startsWith(`kernel/${room}/`)),
        `kernel/${room}`,
      ).toBe(true)
    const reaches = (from: string, to: string): boolean => (rooms[from] ?? []).some((next) => next === to || reaches(next, to))
    expect(Object.keys(rooms).filter((room) => reaches(room, room))).toEqual([])
  })
})

describe('a planted violation bites', () => {
  const cases: [what: string, path: string, text: string][] = [
    ['the contract imports a room', 'kernel/contract/x.ts', "import type { Bus } from '../bus/bus.ts'"],
    ['a room imports a sibling that is not listed', 'kernel/bus/x.ts', "export { createHttp } from '../http/http.ts'"],
    ['a room imports a plugin', 'kernel/http/x.ts', "import openai from '../../plugins/openai/index.ts'"],
    ['a room imports a plugin dynamically', 'kernel/boot/start.ts', "const load = () => import('../../plugins/openai/index.ts')"],
    ['a room imports the public entry', 'kernel/bus/x.ts', "import { t } from 'portico'"],
    ['code imports a test fixture', 'kernel/bus/x.ts', "import { startUpstream } from '../../test/fixtures/upstream.ts'"],
    ['a plugin imports the kernel by path', 'plugins/openai/x.ts', "import { createBus } from '../../kernel/bus/bus.ts'"],
    ['a plugin imports another one by path', 'plugins/openai/x.ts', "import type { Models } from '../models/contract.ts'"],
    ["a plugin imports another one's inside", 'plugins/openai/x.ts', "import { pick } from 'portico/plugins/models/routing'"],
    ['a plugin imports elysia', 'plugins/openai/x.ts', "import { Elysia } from 'elysia'"],
    ['a plugin imports TypeBox', 'plugins/openai/x.ts', "import { Type } from '@sinclair/typebox/value'"],
    ['a plugin imports the testkit outside a test', 'plugins/openai/x.ts', "import { startTestGateway } from 'portico/testkit'"],
    ['a channel imports the kernel', 'channels/slack/x.ts', "await import('../../kernel/bus/bus.ts')"],
    ['code imports a development dependency', 'plugins/openai/x.ts', "import OpenAI from 'openai'"],
    ['code imports a package that is not in package.json', 'kernel/http/x.ts', "import 'left-pad'"],
    ['code names Bun', 'plugins/openai/x.ts', "import { file } from 'bun'"],
    ['code imports by URL', 'kernel/http/x.ts', "import x from 'npm:elysia'"],
    ['an import leaves the checkout', 'test/x.ts', "import x from '../../elsewhere/x.ts'"],
    ['an import has no ending', 'kernel/http/x.ts', "import { gate } from './gate'"],
    ['a statement over several lines', 'kernel/contract/x.ts', "import {\n  a,\n  type B as C,\n} from '../bus/bus.ts'"],
  ]
  test.each(cases)('%s', (_, path, text) => expect(planted(path, text)).toHaveLength(1))

  test('and what is allowed passes', () => {
    expect(
      planted(
        'plugins/openai/x.ts',
        "import { t } from 'portico'\nimport { models } from 'portico/plugins/models'\nimport { eq } from 'drizzle-orm'\nimport './y.ts'",
      ),
    ).toEqual([])
    expect(
      planted(
        'plugins/openai/x.test.ts',
        "import { startTestGateway } from 'portico/testkit'\nimport OpenAI from 'openai'\nimport { startUpstream } from '../../test/fixtures/upstream.ts'",
      ),
    ).toEqual([])
    expect(planted('plugins/builtins.ts', "const load = () => import('./openai/index.ts')")).toEqual([])
    expect(
      planted('kernel/bus/x.ts', "// import x from '../http/x.ts'\nconst text = `import x from '../http/x.ts'`\nconst more = \"import('../http/x.ts')\""),
    ).toEqual([])
  })

  test('rings and barrels are seen, rings of types are none', () => {
    const ring = [
      { path: 'kernel/bus/a.ts', text: "import { b } from './b.ts'\nexport const a = b" },
      { path: 'kernel/bus/b.ts', text: "import { a } from './a.ts'\nexport const b = a" },
    ]
    expect(importCycles(ring)).toEqual(['kernel/bus/a.ts → kernel/bus/b.ts → kernel/bus/a.ts'])
    expect(importCycles(ring.map((file) => ({ ...file, text: file.text.replace('import ', 'import type ') })))).toEqual([])
    expect(barrels([{ path: 'kernel/bus/index.ts', text: "/** All. */\nexport * from './a.ts'\nexport { b } from './b.ts'\n" }])).toHaveLength(1)
  })
})

describe('the lexer', () => {
  test('counts lines of code: no blanks, no comments, whole templates', () => {
    expect(linesOfCode("/** a\n * b\n */\n\nconst x = 1 // c\n// d\nconst y = `\n\n  // text\n`\n/* e */ const z = '//'\n")).toBe(5)
  })
  test('tells strings, templates within templates, and regular expressions from code', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
    const text = "a(/['\"`/]/, 'fetch(', `${b(`fetch( ${c}`)} fetch(`, 1 / 2) // fetch("
    expect(lex(text).bare).not.toContain('fetch')
    expect(lex(text).bare).toContain('b(')
    expect(lex(text).bare).toContain('1 / 2)')
  })
})
