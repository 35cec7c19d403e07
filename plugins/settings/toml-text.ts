/** One change in the text of a TOML file: finds where it belongs and splices it in. `toml-eslint-parser` says where things stand, `smol-toml` writes new ones. */
import { isDeepStrictEqual } from 'node:util'
import { stringify } from 'smol-toml'
import { type AST, getStaticTOMLValue, parseTOML } from 'toml-eslint-parser'
import { isTable, type Table } from './table.ts'

/** What is to change: a path in the file's own spelling, what stands there, and what is to; undefined = nothing. */
export interface Change {
  readonly path: readonly string[]
  readonly before: unknown
  readonly after: unknown
}

/** Keys, and indexes of `[[lists]]`. */
type Path = readonly (string | number)[]

/** A `key = value`. */
interface Entry {
  /** Of the table that it is written in. */
  readonly owner: Path
  readonly path: Path
  readonly node: AST.TOMLKeyValue
}

interface Outline {
  /** In the order of the text; those of an inline table follow the entry that it is the value of. */
  readonly entries: readonly Entry[]
  /** `[header]` and `[[header]]`, each with what is written under it. */
  readonly blocks: readonly AST.TOMLTable[]
  readonly commas: readonly AST.Range[]
}

/** The text with the change made. */
export function changeToml(text: string, { path, before, after }: Change): string {
  const entry = outlineOf(text).entries.find((candidate) => isSame(candidate.path, path))
  if (after === undefined) return keepParent(remove(text, path), path.slice(0, -1))
  if (entry) return splice(text, entry.node.value.range, toText(after, text.slice(...entry.node.value.range)))
  if (isListOfTables(before) && isListOfTables(after)) return changeList(text, path, before, after)
  if (before === undefined) return add(text, path, after)
  const rest = remove(text, path)
  const first = outlineOf(text).blocks.find(({ resolvedKey }) => isWithin(resolvedKey, path))
  return add(rest, path, after, first && gapIn(text, rest, lineStart(text, first.range[0])))
}

/** Where tables stood that were cut out. */
interface Gap {
  readonly above: string
  readonly below: string
}

/** Of cuts from `at` on; an empty line right above it may have gone too. Undefined when more is gone from before. */
function gapIn(text: string, rest: string, at: number): Gap | undefined {
  const above = text.slice(0, at)
  if (rest.startsWith(above)) return { above, below: rest.slice(at) }
  const line = lineStart(text, at - 1)
  return isEmptyLine(text.slice(line, at)) && rest.startsWith(text.slice(0, line)) ? { above, below: rest.slice(line) } : undefined
}

function outlineOf(text: string): Outline {
  const { body, tokens } = parseTOML(text, { tomlVersion: '1.1' })
  const blocks = body[0].body.filter((node) => node.type === 'TOMLTable')
  const entriesIn = (nodes: readonly AST.TOMLNode[], owner: Path): Entry[] =>
    nodes.flatMap((node) => {
      if (node.type !== 'TOMLKeyValue') return []
      const path = [...owner, ...getStaticTOMLValue(node.key)]
      return [{ owner, path, node }, ...(node.value.type === 'TOMLInlineTable' ? entriesIn(node.value.body, path) : [])]
    })
  const entries = [...entriesIn(body[0].body, []), ...blocks.flatMap((block) => entriesIn(block.body, block.resolvedKey))]
  return { entries, blocks, commas: tokens.filter(({ type, value }) => type === 'Punctuator' && value === ',').map(({ range }) => range) }
}

const isWithin = (path: Path, ancestor: Path): boolean => ancestor.every((part, index) => path[index] === part)
const isSame = (path: Path, other: Path): boolean => path.length === other.length && isWithin(path, other)
const isListOfTables = (value: unknown): value is Table[] => Array.isArray(value) && value.length > 0 && value.every(isTable)

function exists({ entries, blocks }: Outline, path: Path): boolean {
  return entries.some((entry) => isWithin(entry.path, path)) || blocks.some(({ resolvedKey }) => isWithin(resolvedKey, path))
}

/** Cuts all that stands at the path and below. */
function remove(text: string, path: Path): string {
  const { entries, blocks, commas } = outlineOf(text)
  const doomed = blocks.filter(({ resolvedKey }) => isWithin(resolvedKey, path))
  if (doomed.length > 0) {
    const without = doomed.reduceRight((out, block) => cutLines(out, block.range[0], endOf(block)), text)
    // The next entry of a list has its index now, and stays.
    return typeof path.at(-1) === 'number' ? without : remove(without, path)
  }
  const entry = entries.find((candidate) => isWithin(candidate.path, path))
  if (!entry) return text
  const { parent, range } = entry.node
  return remove(parent.type === 'TOMLInlineTable' ? cutInline(text, range, commas) : cutLines(text, ...range), path)
}

/** A table that no header names is gone with its last key; it is to be empty instead. */
function keepParent(text: string, parent: readonly string[]): string {
  return parent.length === 0 || exists(outlineOf(text), parent) ? text : add(text, parent, {})
}

function cutLines(text: string, from: number, to: number): string {
  const [start, end] = [lineStart(text, from), lineEnd(text, to)]
  // Of two empty lines that would meet, one goes too.
  const above = /^[ \t]*\r?\n$/.test(text.slice(lineStart(text, start - 1), start)) && /^[ \t]*(?:\r?\n|$)/.test(text.slice(end))
  return text.slice(0, above ? lineStart(text, start - 1) : start) + text.slice(end)
}

function cutInline(text: string, [from, to]: AST.Range, commas: readonly AST.Range[]): string {
  const isBlank = (start: number, end: number) => text.slice(start, end).replace(/#.*/g, '').trim() === ''
  const after = commas.find(([start]) => start >= to && isBlank(to, start))
  if (after) return splice(text, [from, after[1] + (/^[ \t]*/.exec(text.slice(after[1]))?.[0].length ?? 0)], '')
  const before = commas.findLast(([, end]) => end <= from && isBlank(end, from))
  const blanks = /[ \t]*$/.exec(text.slice(0, from))?.[0].length ?? 0
  const without = splice(text, [from - blanks, to], '')
  return before ? splice(without, before, '') : without
}

/** Puts a key where there is none: into the nearest table that there is, in the way that one is written. A section that it needs of its own fills the gap. */
function add(text: string, path: readonly string[], value: unknown, gap?: Gap): string {
  const outline = outlineOf(text)
  const depth = path.findLastIndex((_, index) => index === 0 || exists(outline, path.slice(0, index)))
  const [home, rest] = [path.slice(0, depth), path.slice(depth)]
  const inline = outline.entries.find((entry) => isSame(entry.path, home))?.node.value
  if (inline?.type === 'TOMLInlineTable') return addInline(text, inline, pairOf(rest, value))

  const dotted = outline.entries.findLast((entry) => entry.owner.length < depth && isWithin(entry.path, home))
  if (dotted) {
    const { parent, range } = dotted.node
    const pair = pairOf(path.slice(dotted.owner.length), value)
    return parent.type === 'TOMLInlineTable' ? splice(text, [range[1], range[1]], `, ${pair}`) : addLine(text, range, pair)
  }
  if (rest.length === 1 && !isTable(value) && !isListOfTables(value)) {
    const header = outline.blocks.find(({ resolvedKey }) => isSame(resolvedKey, home))
    const last = header ? (header.body.at(-1) ?? header) : outline.entries.findLast(({ owner }) => depth === 0 && owner.length === 0)?.node
    if (last) return addLine(text, last.range, pairOf(rest, value))
    if (depth === 0) return addSection(text, outline.blocks[0] ? commentsAbove(text, outline.blocks[0].range[0]) : text.length, pairOf(rest, value))
  }
  if (gap) return gap.above + withBreaks(text, `${sectionOf(path, value)}\n${isEmptyLine(gap.below) ? '' : '\n'}`) + gap.below
  const last = depth > 0 && outline.blocks.findLast(({ resolvedKey }) => isWithin(resolvedKey, home))
  return addSection(text, last ? afterBlock(text, last) : text.length, sectionOf(path, value))
}

function addInline(text: string, { range, body }: AST.TOMLInlineTable, pair: string): string {
  const last = body.at(-1)
  if (last) return splice(text, [last.range[1], last.range[1]], `, ${pair}`)
  return text.slice(...range).includes('#') ? splice(text, [range[0] + 1, range[0] + 1], ` ${pair}`) : splice(text, range, `{ ${pair} }`)
}

/** A line of its own below the line where the range ends, indented like the one where it starts. */
function addLine(text: string, [from, to]: AST.Range, pair: string): string {
  const end = lineEnd(text, to)
  const indent = /^[ \t]*/.exec(text.slice(lineStart(text, from)))?.[0] ?? ''
  return splice(text, [end, end], withBreaks(text, `${text.slice(0, end).endsWith('\n') ? '' : '\n'}${indent}${pair}\n`))
}

/** A paragraph of its own. */
function addSection(text: string, at: number, section: string): string {
  const [above, below] = [text.slice(0, at), text.slice(at)]
  const before = above === '' || /(?:^|\n)[ \t]*\r?\n$/.test(above) ? '' : above.endsWith('\n') ? '\n' : '\n\n'
  return above + withBreaks(text, `${before}${section}\n${isEmptyLine(below) ? '' : '\n'}`) + below
}

type ListPlace = readonly [path: readonly string[], index: number]

/** Changes `[[path]]`: entries that stay equal are not touched. */
function changeList(text: string, path: readonly string[], before: readonly Table[], after: readonly Table[]): string {
  const rest = [...before]
  let out = text
  for (const [index, wanted] of after.entries()) {
    const found = rest.findIndex((entry) => isDeepStrictEqual(entry, wanted))
    if (found >= 0) for (const _ of rest.splice(0, found + 1).slice(1)) out = remove(out, [...path, index])
    else if (rest.length > 0 && !after.some((later, at) => at > index && isDeepStrictEqual(later, rest[0]))) {
      out = replaceInList(out, [path, index], wanted)
      rest.shift()
    } else out = addToList(out, [path, index], wanted)
  }
  return rest.reduceRight<string>((shorter, _, index) => remove(shorter, [...path, after.length + index]), out)
}

function replaceInList(text: string, [path, index]: ListPlace, entry: Table): string {
  const header = outlineOf(text).blocks.find(({ resolvedKey }) => isSame(resolvedKey, [...path, index]))
  const at = lineStart(text, header?.range[0] ?? 0)
  return remove(splice(text, [at, at], withBreaks(text, `${sectionOf(path, [entry])}\n`)), [...path, index + 1])
}

function addToList(text: string, [path, index]: ListPlace, entry: Table): string {
  const { blocks } = outlineOf(text)
  const previous = blocks.findLast(({ resolvedKey }) => isWithin(resolvedKey, [...path, index - 1]))
  const first = blocks.find(({ resolvedKey }) => isSame(resolvedKey, [...path, 0]))
  return addSection(text, previous ? afterBlock(text, previous) : commentsAbove(text, first?.range[0] ?? 0), sectionOf(path, [entry]))
}

/** True also at the end. */
const isEmptyLine = (text: string): boolean => text === '' || /^[ \t]*\r?\n/.test(text)
const lineStart = (text: string, at: number): number => (at > 0 ? text.lastIndexOf('\n', at - 1) + 1 : 0)
const lineEnd = (text: string, at: number): number => text.indexOf('\n', at) + 1 || text.length
const splice = (text: string, [from, to]: AST.Range, part: string): string => text.slice(0, from) + part + text.slice(to)
const withBreaks = (text: string, part: string): string => (text.includes('\r\n') ? part.replaceAll('\n', '\r\n') : part)
const endOf = ({ body, range }: AST.TOMLTable): number => body.at(-1)?.range[1] ?? range[1]

/** Where the comment lines right above a place begin; a directive (`#:schema …`) is none of them. */
function commentsAbove(text: string, at: number): number {
  const start = lineStart(text, at)
  return start - (/(?:^|\n)((?:[ \t]*#(?!:)[^\n]*\n)+)$/.exec(text.slice(0, start))?.[1]?.length ?? 0)
}

/** Below a block and the comment lines that end it. */
function afterBlock(text: string, block: AST.TOMLTable): number {
  const end = lineEnd(text, endOf(block))
  return end + (/^(?:[ \t]*#[^\n]*(?:\n|$))+(?=[ \t]*\r?\n|$)/.exec(text.slice(end))?.[0].length ?? 0)
}

function pairOf(path: Path, value: unknown): string {
  return `${path.map((key) => stringify({ [key]: 0 }).slice(0, -' = 0\n'.length)).join('.')} = ${toText(value)}`
}

/** A value as it stands behind `=`: a list on as many lines as the one it replaces. */
function toText(value: unknown, old = ''): string {
  // In a list within a list smol-toml writes tables inline, too.
  const inline = (entry: unknown) => stringify({ _: [[entry]] }).slice('_ = [ [ '.length, -' ] ]\n'.length)
  const [, indent, end] = /^\[[^\n]*\n([ \t]*)[\s\S]*?([ \t]*)\]$/.exec(old) ?? []
  if (!Array.isArray(value) || value.length === 0 || indent === undefined) return inline(value)
  return withBreaks(old, `[\n${value.map((entry) => `${indent}${inline(entry)},\n`).join('')}${end}]`)
}

/** `[path]` or `[[path]]` with all that is in it. */
function sectionOf(path: readonly string[], value: unknown): string {
  return stringify(path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as Table).trimEnd()
}
