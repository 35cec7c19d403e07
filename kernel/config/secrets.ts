/** Secrets in config: references `env:NAME` and `file:PATH`, or literals; one in a file that others can read is worth a warning. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TSchema } from '../contract/schema.ts'
import { describeSchema } from './describe.ts'
import type { RawConfig } from './read.ts'
import { fault, passes, type ResolvedSecret, type Settling } from './settling.ts'
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
  } else value = written
  const reference = variable || file !== undefined ? written : null
  settling.secrets.push({ section, key: pathText(path), path, reference, value })
  if (value !== '' && passes(schema, value)) return value
  return fault(settling, path, { what: 'the secret is not of the right form', found: reference ?? 'a secret (not shown)', expected: describeSchema(schema) })
}

/** A sentence for each literal secret in a file that others can read, with the command that mends it. */
export function exposedSecrets(raw: RawConfig, secrets: readonly ResolvedSecret[]): string[] {
  if (raw.privateFile) return []
  const literals = secrets.filter(({ reference }) => reference === null)
  return literals.map(
    ({ section, key }) => `[${section}] ${key} stands in a file that others can read: chmod 600 ${raw.file}, or write "env:NAME" or "file:PATH" instead.`,
  )
}
