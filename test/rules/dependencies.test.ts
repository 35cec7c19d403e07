import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import manifest from '../../package.json'
import { projectFiles, report, root } from './source.ts'

const runtime: Record<string, string> = manifest.dependencies
const dev: Record<string, string> = manifest.devDependencies
const all = { ...runtime, ...dev }
const exact = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/

/** The reasons of the README's tables, by package: a row names packages in backticks in one cell and has a reason in its last. */
function readmeRows(text: string): Map<string, string> {
  const rows = new Map<string, string>()
  for (const line of text.split('\n').filter((entry) => entry.startsWith('|'))) {
    const cells = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim())
    for (const cell of cells.slice(0, -1)) for (const match of cell.matchAll(/`([^`\s]+)`/g)) rows.set(match[1] as string, cells.at(-1) ?? '')
  }
  return rows
}

describe('dependencies', () => {
  test('are pinned to one version each', () => {
    report(
      'pins',
      Object.entries(all)
        .filter(([, version]) => !exact.test(version))
        .map(([name, version]) => `${name}: ${version}`),
    )
    expect('1.2.3').toMatch(exact)
    for (const loose of ['^1.2.3', '~1.2.3', '1.x', '*', 'latest', 'github:a/b', '>=1']) expect(loose).not.toMatch(exact)
  })

  test('are in the lockfile, which names no registry', () => {
    const lock = readFileSync(`${root}/bun.lock`, 'utf8')
    report(
      'lockfile',
      Object.entries(all)
        .filter(([name, version]) => !lock.includes(`"${name}@${version}"`))
        .map(([name, version]) => `${name}@${version} is not in bun.lock`),
    )
    expect(lock).not.toMatch(/https?:\/\//)
  })

  test('have a row in the README with a reason', () => {
    const rows = readmeRows(readFileSync(`${root}/README.md`, 'utf8'))
    report(
      'README',
      Object.keys(all)
        .filter((name) => (rows.get(name) ?? '').split(/\s+/).length < 3)
        .map((name) => `${name} has no row with a reason`),
    )
  })

  test('the README names no package that is gone', () => {
    const tables = readFileSync(`${root}/README.md`, 'utf8').split('| package | why |').slice(1)
    expect(tables).toHaveLength(2)
    const named = tables.flatMap((table) => [...readmeRows(table.split('\n\n')[0] ?? '').keys()])
    expect(named.filter((name) => !(name in all))).toEqual([])
  })

  test('every command that fetches a package names its version', () => {
    const texts = projectFiles(['.md', '.json', '.yml', '.yaml', '.sh', '/run', 'Dockerfile'])
    const loose = texts.flatMap((file) =>
      [...file.text.matchAll(/\b(?:npx(?: -y| --yes)?|bunx|deno x|npm i(?:nstall)?(?: -g)?) (@?[a-z][\w./-]*)(@[\w.[-]+)?/g)]
        .filter((match) => !match[2] && match[1] !== 'portico' && !file.path.startsWith('CHANGELOG'))
        .map((match) => `${file.path}: ${match[0]}`),
    )
    report('unpinned commands', loose)
    const bun = projectFiles(['.md', '/run']).flatMap((file) => [...file.text.matchAll(/npx -y bun@(\d[\w.-]*)/g)].map((match) => match[1]))
    expect(new Set(bun)).toEqual(new Set([manifest.devDependencies.bun]))
  })

  test.each(['bun', 'deno'])('each of the runtime ones loads on %s', async (name) => {
    const script = `for (const name of ${JSON.stringify(Object.keys(runtime))}) {
      try { await import(name) } catch (error) { console.log(name + ': ' + error) }
    }
    process.exit(0)`
    const args = name === 'bun' ? ['-e', script] : ['eval', '--ext=mjs', script]
    const child = Bun.spawn([`${root}/node_modules/.bin/${name}`, ...args], { cwd: root, stdout: 'pipe', stderr: 'pipe' })
    const [code, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()])
    report(`loads on ${name}`, out.trim() === '' ? [] : out.trim().split('\n'))
    expect(code, err).toBe(0)
  })
})
