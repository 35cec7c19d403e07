/** Secrets in config: references `env:NAME` and `file:PATH`, or literals in a file that nobody else can read. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TSchema } from '../contract/schema.ts'
import { describeSchema } from './describe.ts'
import { fault, passes, type Settling } from './settling.ts'
import { type Path, pathText } from './table.ts'

/** Resolves one secret. What is wrong is a problem that names the reference, never the value. */
export function settleSecret(schema: TSchema, written: string, path: Path, settling: Settling): unknown {
  const { raw, section } = settling
  // `${NAME}` is the spelling of seed 2.
  const variable = /^(?:env:(\w+)|\$\{(\w+)\})$/.exec(written)
  const file = /^file:(.+)$/.exec(written)?.[1]
  let value: string
  if (variable) {
    const name = variable[1] ?? variable[2] ?? ''
    value = raw.env[name] ?? ''
    if (value === '') return fault(settling, path, { what: 'the environment variable is not set', found: written, expected: `${name} to hold the secret` })
  } else if (file !== undefined) {
    try {
      value = readFileSync(resolve(raw.baseDir, file), 'utf8').replace(/\r?\n$/, '')
    } catch (error) {
      const { code = 'error' } = error as NodeJS.ErrnoException
      return fault(settling, path, { what: 'the file of the secret cannot be read', found: `${written} (${code})`, expected: 'a readable file' })
    }
  } else if (raw.privateFile) value = written
  else {
    const expected = `mode 0600 (chmod 600 ${raw.file}), or a reference "env:NAME" or "file:PATH"`
    return fault(settling, path, { what: 'a secret stands in a file that others can read', expected })
  }
  const reference = variable || file !== undefined ? written : null
  settling.secrets.push({ section, key: pathText(path), path, reference, value })
  if (value !== '' && passes(schema, value)) return value
  return fault(settling, path, { what: 'the secret is not of the right form', found: reference ?? 'a secret (not shown)', expected: describeSchema(schema) })
}
