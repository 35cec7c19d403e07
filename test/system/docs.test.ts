/** The pages of docs/: what they show works as it stands there. */
import { afterAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import manifest from '../../package.json'
import { spawnGateway } from '../fixtures/gateway-process.ts'
import { root } from '../rules/source.ts'

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const folder = mkdtempSync(join(tmpdir(), 'portico-docs-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('docs/plugins.md: every command and file, in its order; then a gateway with that plugin', async () => {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'portico'), `#!/bin/sh\nexec ${root}/node_modules/.bin/bun ${root}/kernel/cli/main.ts "$@"\n`, { mode: 0o755 })
  let cwd = folder
  let tests = 0
  for (const [, language = '', file = '', text = ''] of read('docs/plugins.md').matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```/gm)) {
    if (file !== '') {
      mkdirSync(dirname(join(cwd, file)), { recursive: true })
      writeFileSync(join(cwd, file), text)
    } else if (language === 'sh') {
      const child = Bun.spawn(['bash', '-euo', 'pipefail', '-c', `${text}\npwd > ${folder}/cwd`], {
        ...{ cwd, stdout: 'pipe', stderr: 'pipe' },
        env: { ...process.env, PATH: `${bin}:${root}/node_modules/.bin:${process.env.PATH}`, NO_COLOR: '1' },
      })
      const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited])
      expect([text, code, code === 0 ? '' : out + err]).toEqual([text, 0, ''])
      tests += Number(/(\d+) pass/.exec(err)?.[1] ?? 0)
      cwd = readFileSync(join(folder, 'cwd'), 'utf8').trim()
    } else if (language === 'toml') writeFileSync(join(folder, 'portico.toml'), text)
  }
  expect(tests).toBe(11)
  // Its section as the page has it belongs to the first plugin of the page; the second one has another key.
  const config = read('docs/plugins.md').includes('word = "Salve"') ? `plugins = [${JSON.stringify(cwd)}]\n[greeter]\nlongest = 5\n` : ''
  await using gateway = await spawnGateway({ runtime: 'bun', config })
  const post = (text: string) => gateway.fetch('/greeter', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ text }) })
  expect([(await post('hello')).status, (await post('too long')).status]).toEqual([200, 413])
}, 180_000)

describe('every page', () => {
  const pages = [
    ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
    ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
    ...readdirSync(join(root, 'docs/decisions')).flatMap((name) => (name.endsWith('.md') ? [`docs/decisions/${name}`] : [])),
    ...readdirSync(join(root, 'plugins')).flatMap((name) => (existsSync(join(root, 'plugins', name, 'README.md')) ? [`plugins/${name}/README.md`] : [])),
  ]

  test('links to what is there', () => {
    const dead = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:|#|mailto:)([^)\s#]+)/g)].flatMap(([, link = '']) =>
        existsSync(join(root, posix.join(posix.dirname(page), link))) ? [] : [`${page} → ${link}`],
      ),
    )
    expect(dead).toEqual([])
  })

  test('names commands that exist', () => {
    const known = new Set([...read('docs/cli.md').matchAll(/^ {2}portico ([a-z]+(?: [a-z]+)?)/gm)].map(([, words = '']) => words))
    const groups = new Set([...known].map((words) => words.split(' ')[0]))
    const scripts: Record<string, string> = manifest.scripts
    const wrong = pages.flatMap((page) => {
      const code = [...read(page).matchAll(/`(?:bun run |deno task )?portico ([a-z]+)(?: ([a-z]+))?|^(?:bun run )?portico ([a-z]+)/gm)]
      const commands = code.flatMap((match) => [match[1] ?? match[3] ?? '']).filter((name) => !groups.has(name) && !/^[A-Z]/.test(name))
      const runs = [...read(page).matchAll(/bun run (\w+)/g)].map(([, name = '']) => name).filter((name) => !(name in scripts))
      return [...commands, ...runs].map((name) => `${page}: ${name}`)
    })
    expect(wrong).toEqual([])
  })

  test('every plugin has one', () => {
    const without = readdirSync(join(root, 'plugins'), { withFileTypes: true }).filter(
      (entry) => entry.isDirectory() && !pages.includes(`plugins/${entry.name}/README.md`),
    )
    expect(without.map(({ name }) => name)).toEqual([])
  })

  test('the changelog names every plugin', () => {
    const plugins = readdirSync(join(root, 'plugins'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
    expect(plugins.map(({ name }) => name).filter((name) => !read('CHANGELOG.md').includes(`\`${name}\``))).toEqual([])
  })
})
