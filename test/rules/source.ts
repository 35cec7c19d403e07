/** Reads the project's own source for the rules: which files there are, what in them is code, and what they import. No parser: a lexer that knows comments, strings, templates and regular expressions. */
import { readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The checkout's folder. */
export const root = fileURLToPath(new URL('../..', import.meta.url))

/** A file of the project: its path from the root with `/`, and its text. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

const skipped = new Set(['node_modules', '.git', 'dist'])

/** Every file under the folder (default the whole checkout) with one of the endings. */
export function projectFiles(endings: readonly string[] = ['.ts'], folder = ''): SourceFile[] {
  return readdirSync(`${root}/${folder}`, { withFileTypes: true })
    .filter((entry) => !skipped.has(entry.name))
    .flatMap((entry) => {
      const path = posix.join(folder, entry.name)
      if (entry.isDirectory()) return projectFiles(endings, path)
      return entry.isFile() && endings.some((ending) => path.endsWith(ending)) ? [{ path, text: readFileSync(`${root}/${path}`, 'utf8') }] : []
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** True for what only tests use: `*.test.ts`, and all of `test/`. */
export function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.startsWith('test/')
}

/** The text with comments blanked, and the same with the insides of strings, templates and regular expressions blanked too. Places and lines stay. */
export interface Lexed {
  readonly withoutComments: string
  readonly bare: string
}

/** Lexes TypeScript. */
export function lex(text: string): Lexed {
  const uncommented = [...text.split('')]
  const bare = [...uncommented]
  const blank = (out: string[], from: number, to: number) => {
    for (let i = from; i < to; i++) if (out[i] !== '\n') out[i] = ' '
  }
  const templates: number[] = []
  let depth = 0
  let at = 0
  let before = '' // the code since the last literal, to tell a division from a regular expression
  const literal = (end: number) => {
    blank(bare, at + 1, end - 1)
    before = '""'
    at = end
  }
  const template = (from: number) => {
    let end = from
    while (end < text.length && text[end] !== '`' && !(text[end] === '$' && text[end + 1] === '{')) end += text[end] === '\\' ? 2 : 1
    blank(bare, from, end)
    if (text[end] === '$') {
      templates.push(depth)
      at = end + 2
      before = '('
    } else {
      at = end + 1
      before = '""'
    }
  }
  while (at < text.length) {
    const char = text[at] as string
    const pair = text.slice(at, at + 2)
    if (pair === '//' || (pair === '#!' && at === 0)) {
      const found = text.indexOf('\n', at)
      const end = found < 0 ? text.length : found
      blank(uncommented, at, end)
      blank(bare, at, end)
      at = end
    } else if (pair === '/*') {
      const found = text.indexOf('*/', at + 2)
      const end = found < 0 ? text.length : found + 2
      blank(uncommented, at, end)
      blank(bare, at, end)
      at = end
    } else if (char === '"' || char === "'") {
      literal(endOfLiteral(text, at, char))
    } else if (char === '`') {
      template(at + 1)
    } else if (char === '/' && /(^|[(,=:[!&|?{};+\-*%~^<>]|\b(return|typeof|case|in|of|await|void))\s*$/.test(before)) {
      literal(endOfRegExp(text, at))
    } else if (char === '}' && templates.at(-1) === depth) {
      templates.pop()
      template(at + 1)
    } else {
      if (char === '{') depth++
      if (char === '}') depth--
      before = (before + char).slice(-24)
      at++
    }
  }
  return { withoutComments: uncommented.join(''), bare: bare.join('') }
}

function endOfLiteral(text: string, at: number, quote: string): number {
  let end = at + 1
  while (end < text.length && text[end] !== quote && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1
  return end + 1
}

function endOfRegExp(text: string, at: number): number {
  let end = at + 1
  let inClass = false
  while (end < text.length && text[end] !== '\n' && (inClass || text[end] !== '/')) {
    if (text[end] === '[') inClass = true
    if (text[end] === ']') inClass = false
    end += text[end] === '\\' ? 2 : 1
  }
  return end + 1
}

/** Lines that are neither blank nor only comment. */
export function linesOfCode(text: string): number {
  return lex(text)
    .withoutComments.split('\n')
    .filter((line) => line.trim() !== '').length
}

/** The line (from 1) of a place in the text. */
export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}

/** One import of a file. `types`: an `import type` or `export type`. */
export interface Import {
  readonly specifier: string
  readonly line: number
  readonly kind: 'static' | 'dynamic'
  readonly types: boolean
}

const statement = /(?<![.\w$])(import|export)(\s+type\b)?(?:[\s\w$*,{}]*?\sfrom|\s*[{*][\s\w$*,{}]*\s?from|(?=\s*["']))\s*(["'])/g
const call = /(?<![.\w$])(?:import|require)\s*\(\s*(["'`])/g

/** Every `import`, `export … from` and `import(…)` with a literal address. */
export function importsOf(text: string): Import[] {
  const { bare } = lex(text)
  const found: Import[] = []
  const add = (match: RegExpMatchArray, kind: Import['kind'], types: boolean, quote: string) => {
    const from = (match.index ?? 0) + match[0].length
    found.push({ specifier: text.slice(from, text.indexOf(quote, from)), line: lineAt(text, match.index ?? 0), kind, types })
  }
  for (const match of bare.matchAll(statement)) {
    if (match[1] === 'import' || /from\s*["']$/.test(match[0])) add(match, 'static', match[2] !== undefined, match[3] as string)
  }
  for (const match of bare.matchAll(call)) add(match, 'dynamic', false, match[1] as string)
  return found
}

/** The project's path of a relative specifier. */
export function resolveFrom(path: string, specifier: string): string {
  return posix.normalize(posix.join(posix.dirname(path), specifier))
}

/** The package of a bare specifier: `drizzle-orm/pg-core` → `drizzle-orm`. */
export function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
}

/** A failure that lists every violation at once. */
export function report(rule: string, violations: readonly string[]): void {
  if (violations.length > 0)
    throw new Error(`${rule}: ${violations.length} violation${violations.length === 1 ? '' : 's'}\n${violations.map((line) => `  ${line}`).join('\n')}`)
}
