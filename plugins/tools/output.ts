/** What a tool returned, made into parts that a model may be shown, and no more of it than the cap. */
import { GatewayError } from 'portico'
import type { ToolOutput, ToolPart } from './contract.ts'

/** Parts of one answer; more are cut. */
const maxParts = 1_000
const maxDepth = 64

/** The parts, and the object if it gave one. */
export interface CappedOutput {
  readonly parts: readonly ToolPart[]
  readonly structured?: unknown
}

/**
 * Takes at most `max` characters of what came, base64 counted too. What was cut is said in a last part. What is left of a large text is a copy: it does not keep
 * the whole in memory.
 * @throws GatewayError `internal_error` when it is nothing that a tool may return
 */
export function capOutput(output: ToolOutput, max: number): CappedOutput {
  if (typeof output === 'string') return { parts: capParts([{ type: 'text', text: output }], max) }
  if (Array.isArray(output)) return { parts: capParts(output, max) }
  if (typeof output !== 'object' || output === null || !('structured' in output)) throw notAnOutput()
  const { structured, content } = output
  if (!isWithin(structured, max)) {
    const text = `[The structured output was left out: it has over ${max} characters, is nested deeper than ${maxDepth}, or is no JSON. Ask for less.]`
    return { parts: [...(content ? capParts(content, max) : []), { type: 'text', text }] }
  }
  return { structured, parts: content ? capParts(content, max) : [{ type: 'text', text: JSON.stringify(structured) ?? 'null' }] }
}

function capParts(parts: readonly ToolPart[], max: number): ToolPart[] {
  const kept: ToolPart[] = []
  const notes: string[] = []
  let left = max
  for (const part of parts) {
    if (kept.length >= maxParts) {
      notes.push(`${parts.length - maxParts} of ${parts.length} parts`)
      break
    }
    if (!isPart(part)) throw notAnOutput()
    const text = 'text' in part ? part.text : undefined
    const size = (text?.length ?? 0) + ('data' in part ? (part.data?.length ?? 0) : 0)
    if (size <= left) {
      kept.push(part)
      left -= size
    } else if (text !== undefined && !('data' in part && part.data)) {
      const head = cut(text, left)
      if (head !== '') kept.push({ ...part, text: head } as ToolPart)
      notes.push(`${text.length - head.length} of ${text.length} characters`)
      left = 0
    } else notes.push(`${part.type} of ${size} characters of base64`)
  }
  if (notes.length > 0)
    kept.push({ type: 'text', text: `[Cut, over the limit of ${max} characters: ${notes.slice(0, 5).join('; ')}. Ask for less, or for a part of it.]` })
  return kept
}

/** The beginning, no surrogate split, in memory of its own. */
function cut(text: string, length: number): string {
  const end = /[\uD800-\uDBFF]/.test(text[length - 1] ?? '') ? length - 1 : length
  return Buffer.from(text.slice(0, end), 'utf16le').toString('utf16le')
}

/** True for JSON of at most `max` characters; stops counting there. */
function isWithin(value: unknown, max: number): boolean {
  let left = max
  const count = (item: unknown, depth: number): boolean => {
    if (depth > maxDepth || left < 0) return false
    if (typeof item === 'string') left -= item.length + 2
    else if (typeof item === 'bigint' || typeof item === 'function' || typeof item === 'symbol') return false
    else if (Array.isArray(item)) {
      left -= 2
      for (const entry of item) if (!count(entry, depth + 1)) return false
    } else if (typeof item === 'object' && item !== null) {
      left -= 2
      for (const key in item) {
        left -= key.length + 4
        if (!count((item as Record<string, unknown>)[key], depth + 1)) return false
      }
    } else left -= 5
    return left >= 0
  }
  return count(value, 0)
}

function isPart(part: unknown): part is ToolPart {
  if (typeof part !== 'object' || part === null) return false
  const { type, text, data, uri, mediaType } = part as Record<string, unknown>
  if (type === 'text') return typeof text === 'string'
  if (type === 'image' || type === 'audio') return typeof data === 'string' && typeof mediaType === 'string'
  return type === 'resource' && typeof uri === 'string' && [text, data].every((value) => value === undefined || typeof value === 'string')
}

function notAnOutput(): GatewayError {
  return new GatewayError('internal_error', 'The tool returned nothing that a tool may return: a text, parts, or { structured }.')
}
