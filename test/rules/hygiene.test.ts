import { describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { isTest, lex, lineAt, projectFiles, report, resolveFrom, root, type SourceFile } from './source.ts'

const everything = projectFiles(['.ts', '.mjs', '.md', '.json', '.toml', '.sql', '.sh', '.html', '.yml', '.yaml', '/run'])
const code = everything.filter((file) => /^(kernel|plugins|channels|test)\/.*\.ts$/.test(file.path))

/** Places only one machine has. Written so that this file does not hold them itself. */
const machinePaths = new RegExp(['work', 'root', 'home/\\w+', 'Users/\\w+', 'tmp/[a-z]+'].map((folder) => `(?<![\\w.:/-])/${folder}/`).join('|'))

function machineMentions(file: SourceFile): string[] {
  return file.text.split('\n').flatMap((line, index) => (machinePaths.test(line) ? [`${file.path}:${index + 1} ${line.trim().slice(0, 100)}`] : []))
}

function sleepingTests(file: SourceFile): string[] {
  const { bare } = lex(file.text)
  const pattern =
    /\b(?:test|it|describe)(?:\.\w+)*\.(only|skip|todo|failing|if|skipIf|todoIf)\b|\b(?:xtest|xit|xdescribe|fit|fdescribe)\s*\(|\bprocess\.exit\s*\(/g
  return [...bare.matchAll(pattern)].map((match) => `${file.path}:${lineAt(bare, match.index)} ${match[0]}`)
}

function openEnds(file: SourceFile): string[] {
  return file.text
    .split('\n')
    .flatMap((line, index) =>
      new RegExp(['TO', 'DO\\b|FIX', 'ME\\b|\\bX', 'XX\\b'].join('')).test(line) ? [`${file.path}:${index + 1} ${line.trim().slice(0, 100)}`] : [],
    )
}

describe('the tree', () => {
  test('mentions no place that only one machine has', () => {
    report('machine paths', everything.flatMap(machineMentions))
    expect(machineMentions({ path: 'x', text: `cd /${'work'}/main` })).toHaveLength(1)
    expect(machineMentions({ path: 'x', text: 'https://example.com/work/x and a/home/x/y' })).toEqual([])
  })

  test('has no test that sleeps, runs alone or ends the run', () => {
    report('tests', code.filter((file) => file.path.endsWith('.test.ts')).flatMap(sleepingTests))
    for (const word of ['only', 'skip', 'todo']) expect(sleepingTests({ path: 'x', text: `test.${word}('a', () => {})` })).toHaveLength(1)
    expect(sleepingTests({ path: 'x', text: "describe.each([1])('a', () => {}) // test.only(" })).toEqual([])
  })

  test('has no open ends in its code', () => {
    report('open ends', code.flatMap(openEnds))
  })

  test('has no link in its prose that leads nowhere', () => {
    const links = everything
      .filter((file) => file.path.endsWith('.md'))
      .flatMap((file) => [...file.text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].map((match) => ({ path: file.path, target: match[1] as string })))
    expect(links.length).toBeGreaterThan(5)
    report(
      'links',
      links.filter(({ path, target }) => !existsSync(`${root}/${resolveFrom(path, target)}`)).map(({ path, target }) => `${path} → ${target}`),
    )
  })

  test('each module begins by saying what it is for', () => {
    const silent = code
      .filter((file) => !isTest(file.path) || file.path.startsWith('test/'))
      .filter((file) => !file.path.endsWith('.test.ts') && !/^(#!.*\n)?\s*\/\*\*/.test(file.text))
    report(
      'modules without a first sentence',
      silent.map((file) => file.path),
    )
  })
})
