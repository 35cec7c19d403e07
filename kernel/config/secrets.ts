/** Secrets in config, once they are resolved: how they are shown, and when one is worth a warning. */
import type { RawConfig } from './read.ts'
import type { Path, Table } from './table.ts'

/** A secret that was resolved. */
export interface ResolvedSecret {
  readonly section: string
  /** `tokens[0].secret`. */
  readonly key: string
  readonly path: Path
  /** `env:NAME` or `file:PATH` as written; null for a literal. */
  readonly reference: string | null
  readonly value: string
}

/** A sentence for each literal secret in a file that others can read, with the command that mends it. */
export function exposedSecrets(raw: RawConfig, secrets: readonly ResolvedSecret[]): string[] {
  const literals = raw.privateFile ? [] : secrets.filter(({ reference }) => reference === null)
  return literals.map(
    ({ section, key }) => `[${section}] ${key} stands in a file that others can read: chmod 600 ${raw.file}, or write "env:NAME" or "file:PATH" instead.`,
  )
}

/** The values of all sections, each secret as `***`, or as its reference. */
export function redactConfig({ sections, secrets }: { sections: Readonly<Table>; secrets: readonly ResolvedSecret[] }): Table {
  const out = structuredClone(sections) as Table
  for (const { section, path, reference } of secrets) {
    let holder = out[section] as Table | undefined
    for (const part of path.slice(0, -1)) holder = holder?.[part] as Table | undefined
    const last = path.at(-1) ?? ''
    if (holder?.[last] !== undefined) holder[last] = reference ?? '***'
  }
  return out
}
