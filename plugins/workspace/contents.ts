/** What is said of contents: their hash, whether they are text, and how two of them differ. */
import { createHash } from 'node:crypto'

/** ms in which two texts are compared line by line; texts that differ more are shown as one put in the other's place. */
const patience = 300
const contextLines = 3

/** SHA-256, hex; null of nothing. */
export function hashOf(content: Uint8Array | null): string | null {
  return content === null ? null : createHash('sha256').update(content).digest('hex')
}

/** The text, or null for what is none: it holds a NUL, or is no UTF-8. */
export function toText(content: Uint8Array): string | null {
  if (content.subarray(0, 8_192).includes(0)) return null
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content)
    return text.includes('\0') ? null : text
  } catch {
    return null
  }
}

/** How a file changes. */
export interface Comparison {
  readonly isBinary: boolean
  /** `+85 -0`, or `binary`. */
  readonly diff: string
  /** The unified diff; of binary files their hashes. */
  readonly patch: string
}

/** Compares what stood at the path with what is to stand there; null for no file. */
export async function compare(path: string, before: Uint8Array | null, after: Uint8Array | null): Promise<Comparison> {
  const [from, to] = [before === null ? '/dev/null' : `a/${path}`, after === null ? '/dev/null' : `b/${path}`]
  const [old, now] = [before === null ? '' : toText(before), after === null ? '' : toText(after)]
  if (old === null || now === null) {
    const named = (content: Uint8Array | null) => (content === null ? 'none' : `sha256 ${hashOf(content)} (${content.byteLength} bytes)`)
    return { isBinary: true, diff: 'binary', patch: `--- ${from}\n+++ ${to}\nBinary files differ: ${named(before)} → ${named(after)}\n` }
  }
  const { FILE_HEADERS_ONLY, formatPatch, structuredPatch } = await import('diff')
  const found = structuredPatch(from, to, old, now, undefined, undefined, { context: contextLines, timeout: patience })
  if (!found) {
    const [gone, come] = [linesOf(old), linesOf(now)]
    const place = (lines: readonly string[]) => `${lines.length === 0 ? 0 : 1},${lines.length}`
    const body = [...shown('-', gone, old), ...shown('+', come, now)].join('\n')
    return { isBinary: false, diff: `+${come.length} -${gone.length}`, patch: `--- ${from}\n+++ ${to}\n@@ -${place(gone)} +${place(come)} @@\n${body}\n` }
  }
  const lines = found.hunks.flatMap((hunk) => hunk.lines)
  const count = (sign: string) => lines.reduce((sum, line) => sum + Number(line.startsWith(sign)), 0)
  return { isBinary: false, diff: `+${count('+')} -${count('-')}`, patch: formatPatch(found, FILE_HEADERS_ONLY) }
}

function linesOf(text: string): string[] {
  if (text === '') return []
  const lines = text.split('\n')
  if (text.endsWith('\n')) lines.pop()
  return lines
}

function shown(sign: string, lines: readonly string[], text: string): string[] {
  const all = lines.map((line) => `${sign}${line}`)
  return text === '' || text.endsWith('\n') ? all : [...all, '\\ No newline at end of file']
}
