/** What a file names of the runtime: its own `fetch`, `Bun.…`, `Deno.…`. */
import { lex, lineAt, type SourceFile } from './source.ts'

/** Files that may call the runtime's own `fetch`: its addresses stand in the operator's config, or are the gateway's own. Addresses from anywhere else go through the service `egress`. */
export const fetchers: readonly RegExp[] = [
  /^plugins\/provider-(openai-compatible|anthropic|google)\//, // baseUrl stands in the config
  /^plugins\/chat\/page\//, // runs in a browser
  /^kernel\/cli\//, // commands beside a running gateway: its run.json
  /^kernel\/testkit\//,
]

/** Every call or mention of the runtime's own `fetch`, one line each. Methods named fetch, and calls of them, are something else. */
export function ownFetches(file: SourceFile): string[] {
  const { bare } = lex(file.text)
  const found: string[] = []
  const say = (index: number) => found.push(`${file.path}:${lineAt(bare, index)} uses the runtime's own fetch`)
  if (!bindsFetch(bare)) {
    for (const match of bare.matchAll(/(?<![.\w$])fetch\s*\(/g)) if (!isDeclaration(bare, match.index, match[0].length)) say(match.index)
    for (const match of bare.matchAll(/[=(,:?]\s*fetch\s*(?=[,;)\n}])/g)) say(match.index)
  }
  for (const match of bare.matchAll(/\b(globalThis|window|self|global)\s*(\?\.|\.)\s*fetch\b/g)) say(match.index)
  return found
}

/** True when the file takes `fetch` out of something or declares it: then the name is not the runtime's. */
function bindsFetch(bare: string): boolean {
  return /\bfunction\s+fetch\b|\b(const|let)\s+fetch\b|[{,]\s*fetch\s*[,}][^;]*?(=>|=(?!=)|\)\s*[:{])/.test(bare)
}

/** `fetch(…) {` and `fetch(…): T`, in an object, class or interface. */
function isDeclaration(bare: string, index: number, length: number): boolean {
  let end = index + length
  for (let depth = 1; depth > 0 && end < bare.length; end++) depth += bare[end] === '(' ? 1 : bare[end] === ')' ? -1 : 0
  const after = bare.slice(end).trimStart()[0]
  const before = bare.slice(0, index).trimEnd()
  return after === '{' || (after === ':' && !before.endsWith('?'))
}

/** Every `Bun.…` and `Deno.…`, one line each. */
export function runtimeNames(file: SourceFile): string[] {
  const { bare } = lex(file.text)
  const pattern = /(?<![.\w$])(?:globalThis\s*\.\s*)?(Bun|Deno)\b/g
  return [...bare.matchAll(pattern)].map((match) => `${file.path}:${lineAt(bare, match.index)} names ${match[1]}`)
}
