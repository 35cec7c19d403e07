/** Paths inside the workspace: what one may look like, before any file is touched. */
import { GatewayError } from 'portico'

const maxLength = 1_024
const maxDepth = 32
const maxNameBytes = 255

/** Names of files that are being written; they belong to the workspace. */
const temporary = /^\.portico-.*\.tmp$/

/** The name under which a file is written beside its place. */
export function temporaryName(id: string): string {
  return `.portico-${id}.tmp`
}

/** True for a name of `temporaryName`. */
export function isTemporary(name: string): boolean {
  return temporary.test(name)
}

/**
 * The names of a path, from the root down; none for the root itself (`''`, `.`). `./a//b/` is `a/b`.
 * @throws GatewayError `invalid_request` for one that is absolute, goes up, or holds what no name may hold
 */
export function toSegments(path: string): string[] {
  const refuse = (why: string): never => {
    const shown = JSON.stringify(String(path).slice(0, 200))
    throw new GatewayError('invalid_request', `The path ${shown} ${why}. Give one inside the workspace, as in "notes/today.md".`, { param: 'path' })
  }
  if (typeof path !== 'string') return refuse('is no text')
  if (path.length > maxLength) return refuse(`has over ${maxLength} characters`)
  if (path.startsWith('/') || /^[A-Za-z]:[\\/]/.test(path)) return refuse('is absolute')
  if (/[\p{Cc}]/u.test(path) || !path.isWellFormed()) return refuse('holds a control character')
  if (path.includes('\\')) return refuse('holds a backslash')
  const segments = path.split('/').filter((name) => name !== '' && name !== '.')
  if (segments.includes('..')) return refuse('leads upwards')
  if (segments.length > maxDepth) return refuse(`has over ${maxDepth} folders`)
  if (segments.some((name) => Buffer.byteLength(name) > maxNameBytes)) return refuse(`holds a name of over ${maxNameBytes} bytes`)
  if (segments.some(isTemporary)) return refuse('is a name that the workspace keeps for itself')
  return segments
}

/** The same, of a file: the root is none. */
export function toFileSegments(path: string): string[] {
  const segments = toSegments(path)
  if (segments.length === 0) throw new GatewayError('invalid_request', 'The path names the workspace itself, not a file in it.', { param: 'path' })
  return segments
}
