/** The tool `apply_patch`: a unified diff over files of the workspace, all of it or none. */
import type { StructuredPatch } from 'diff'
import { GatewayError, isGatewayError, t } from 'portico'
import { defineTool, type Tool, type ToolContext } from '../contract.ts'
import { toText } from './files.ts'

const maxPatch = 1_000_000
const maxFiles = 100

/** `apply_patch`. */
export const applyPatch: Tool = defineTool({
  name: 'apply_patch',
  description:
    'Changes text files in the workspace by a unified diff: "--- a/FILE", "+++ b/FILE" (/dev/null for a file that is made or deleted), "@@ -1,3 +1,4 @@", lines with " ", "-", "+". ' +
    'It fits as a whole or is refused. It is staged: it takes effect when the work of this run is approved.',
  input: t.Object({ patch: t.String({ minLength: 1, maxLength: maxPatch }) }),
  ...{ risk: 'safe', idempotent: false, timeout: 30_000 },
  async run({ patch }, { workspace, signal }) {
    const changes = await toChanges(patch, workspace, signal)
    const encoder = new TextEncoder()
    const said: string[] = []
    for (const [path, content] of changes) {
      const { change, diff } = await workspace.stage(path, content === null ? null : encoder.encode(content))
      said.push(`${path} (${change}, ${diff})`)
    }
    return `Staged: ${said.join(', ')}`
  },
})

/** What each file becomes, with nothing staged yet. */
async function toChanges(text: string, workspace: ToolContext['workspace'], signal: AbortSignal): Promise<Map<string, string | null>> {
  const diff = await import('diff')
  const refuse = (why: string, cause?: unknown) => new GatewayError('unprocessable', `The patch was not applied: ${why}. Nothing is staged of it.`, { cause })
  let patches: StructuredPatch[]
  try {
    patches = diff.parsePatch(text).filter(({ hunks, isRename }) => hunks.length > 0 || isRename)
  } catch (error) {
    throw refuse(`it is no unified diff (${(error as Error).message})`, error)
  }
  if (patches.length === 0) throw refuse('it holds no change')
  if (patches.length > maxFiles) throw refuse(`it changes over ${maxFiles} files`)
  const changes = new Map<string, string | null>()
  for (const patch of patches) {
    const [from, to] = [toPath(patch.oldFileName, 'a/'), toPath(patch.newFileName, 'b/')]
    const path = to ?? from
    if (path === null) throw refuse('a file of it has no name')
    if (changes.has(path)) throw refuse(`${path} is in it twice`)
    const before = from === null ? '' : await read(from, workspace, signal)
    if (before === null) throw refuse(`there is no file ${from}`)
    if (from === null && (await read(path, workspace, signal)) !== null) throw refuse(`${path} is there already`)
    const after = diff.applyPatch(before, patch)
    if (after === false) throw refuse(`its lines are not those of ${path}; read the file again`)
    if (to === null && after !== '') throw refuse(`it deletes ${path}, but not all of its lines`)
    if (from !== null && to !== null && from !== to) changes.set(from, null)
    changes.set(path, to === null ? null : after)
  }
  return changes
}

async function read(path: string, workspace: ToolContext['workspace'], signal: AbortSignal): Promise<string | null> {
  try {
    return toText(await workspace.read(path, signal), path)
  } catch (error) {
    if (isGatewayError(error) && error.code === 'not_found') return null
    throw error
  }
}

/** Null for no file. */
function toPath(name: string | undefined, prefix: string): string | null {
  if (name === undefined || name === '' || name === '/dev/null') return null
  return name.startsWith(prefix) ? name.slice(prefix.length) : name
}
