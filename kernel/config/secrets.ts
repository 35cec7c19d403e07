/** Secrets in config: references `env:NAME` and `file:PATH`, or literals in a file that nobody else can read. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeSchema, type Node } from './describe.ts'
import { fault, type Path, passes, type Settling } from './settling.ts'
import { pathText } from './table.ts'

/** Resolves one secret. What is wrong is a problem that names the reference, never the value. */
export function settleSecret(schema: Node, written: string, path: Path, settling: Settling): string | undefined {
  const { source, section } = settling
  const reference = toReference(written)
  const report = (what: string, found: string | undefined, expected: string): undefined => void fault(what, { found, expected }, path, settling)
  let value = written
  if (reference?.kind === 'env') {
    value = source.env[reference.name] ?? ''
    if (value === '') return report('the environment variable is not set', reference.text, `${reference.name} to hold the secret`)
  } else if (reference?.kind === 'file') {
    try {
      value = readFileSync(resolve(source.baseDir, reference.name), 'utf8').replace(/\r?\n$/, '')
    } catch (error) {
      return report('the file of the secret cannot be read', `${reference.text} (${(error as NodeJS.ErrnoException).code ?? 'error'})`, 'a readable file')
    }
    if (value === '') return report('the file of the secret is empty', reference.text, 'the secret in it')
  } else if (!source.privateFile) {
    return report('a secret stands in a file that others can read', undefined, `mode 0600 (chmod 600 ${source.file}), or a reference "env:NAME" or "file:PATH"`)
  }
  settling.secrets.push({ section, key: pathText(path), path, reference: reference?.text ?? null, value })
  return passes(schema, value) ? value : report('the secret is not of the right form', reference?.text ?? 'a secret (not shown)', describeSchema(schema))
}

function toReference(text: string): { kind: 'env' | 'file'; name: string; text: string } | null {
  // `${NAME}` is the spelling of seed 2.
  const env = /^(?:env:([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\})$/.exec(text)
  if (env) return { kind: 'env', name: env[1] ?? env[2] ?? '', text }
  return text.startsWith('file:') && text.length > 5 ? { kind: 'file', name: text.slice(5), text } : null
}
