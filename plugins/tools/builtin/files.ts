/** The tools of the workspace: `read_file`, `list_files`, `search_files`, `write_file`. Their paths are checked by the workspace. */
import { GatewayError, t } from 'portico'
import { defineTool, type Tool } from '../contract.ts'

const timeout = 30_000
const path = t.String({ description: 'Inside the workspace, as in "notes/today.md"' })

/** `read_file`. */
export const readFile: Tool = defineTool({
  name: 'read_file',
  description: 'Reads a text file of the workspace, with the changes that this run has staged. For a long one give the first line and how many.',
  input: t.Object({
    path,
    firstLine: t.Optional(t.Integer({ minimum: 1, description: 'From 1' })),
    lines: t.Optional(t.Integer({ minimum: 1, maximum: 100_000, description: 'How many; default all' })),
  }),
  ...{ risk: 'safe', idempotent: true, timeout },
  async run({ path, firstLine = 1, lines }, { workspace, signal }) {
    const text = toText(await workspace.read(path, signal), path)
    if (firstLine === 1 && lines === undefined) return text
    const all = text.split('\n')
    return all.slice(firstLine - 1, lines === undefined ? undefined : firstLine - 1 + lines).join('\n')
  },
})

/** `list_files`. */
export const listFiles: Tool = defineTool({
  name: 'list_files',
  description: 'Lists what is in a folder of the workspace; folders end in a slash, files have their bytes behind them.',
  input: t.Object({
    path: t.Optional(t.String({ description: 'A folder; default all of the workspace' })),
    depth: t.Optional(t.Integer({ minimum: 1, maximum: 32, description: 'Levels below it; default 1' })),
  }),
  ...{ risk: 'safe', idempotent: true, timeout },
  async run({ path = '', depth = 1 }, { workspace, signal }) {
    const entries = await workspace.list(path, { depth, signal })
    if (entries.length === 0) return 'There is nothing.'
    return entries.map((entry) => (entry.kind === 'folder' ? `${entry.path}/` : `${entry.path} ${entry.size}`)).join('\n')
  },
})

/** `search_files`. */
export const searchFiles: Tool = defineTool({
  name: 'search_files',
  description: 'Finds lines of text files in the workspace that hold a text, or match an expression (RE2: no look-around, no back references).',
  input: t.Object({
    text: t.String({ minLength: 1, maxLength: 1_000 }),
    path: t.Optional(t.String({ description: 'A file or folder; default all of the workspace' })),
    isRegex: t.Optional(t.Boolean()),
    limit: t.Optional(t.Integer({ minimum: 1, maximum: 1_000, description: 'Lines; default 100' })),
  }),
  ...{ risk: 'safe', idempotent: true, timeout: 60_000 },
  async run({ limit = 100, ...query }, { workspace, signal }) {
    const found = await workspace.search({ ...query, limit, signal })
    if (found.length === 0) return 'Nothing was found.'
    const more = found.length >= limit ? [`[The first ${limit}; there may be more.]`] : []
    return [...found.map((match) => `${match.path}:${match.line}: ${match.text}`), ...more].join('\n')
  },
})

/** `write_file`: staged, and so safe; what is staged is approved as a whole. */
export const writeFile: Tool = defineTool({
  name: 'write_file',
  description: 'Writes a whole text file in the workspace, or deletes one (content null). It is staged: it takes effect when the work of this run is approved.',
  input: t.Object({ path, content: t.Nullable(t.String({ description: 'All of it; null deletes the file' })) }),
  ...{ risk: 'safe', idempotent: true, timeout },
  async run({ path, content }, { workspace }) {
    const { change, diff, state, path: staged } = await workspace.stage(path, content === null ? null : new TextEncoder().encode(content))
    return state === 'staged' ? `Staged: ${staged} (${change}, ${diff})` : `${staged} is as it was: nothing is staged.`
  },
})

/** @throws GatewayError `unsupported_media_type` for what is no text */
export function toText(content: Uint8Array, path: string): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content)
    if (!text.includes('\0')) return text
  } catch {
    // Said below.
  }
  throw new GatewayError('unsupported_media_type', `${path} is no text: it has ${content.byteLength} bytes that are not UTF-8.`)
}
