/** Secrets in config, once they are resolved, and how they are shown. */
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
