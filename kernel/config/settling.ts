/** What the parts of settling share: the path, the collected problems and secrets, the check of one value. */
import { FormatRegistry } from '@sinclair/typebox'
import { Check } from '@sinclair/typebox/value'
import type { Problem } from '../contract/problem.ts'
import type { TSchema } from '../contract/schema.ts'
import type { Node } from './describe.ts'
import { pathText } from './table.ts'

/** Where in a section: keys and indexes. */
export type Path = readonly (string | number)[]

/** Where references lead. */
export interface SecretSource {
  readonly env: Readonly<Record<string, string | undefined>>
  /** What a relative `file:` starts from. */
  readonly baseDir: string
  readonly file: string | null
  /** False: others can read the config file. */
  readonly privateFile: boolean
}

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

/** What a settling goes along with. */
export interface Settling {
  readonly section: string
  readonly source: SecretSource
  readonly problems: Problem[]
  readonly secrets: ResolvedSecret[]
}

/** True if the value is valid; formats nobody registered are not checked. */
export function passes(schema: Node, value: unknown): boolean {
  const { format, ...rest } = schema
  return Check((format === undefined || FormatRegistry.Has(format) ? schema : rest) as unknown as TSchema, value)
}

/** Reports and returns what stands instead. */
export function fault(what: string, more: Pick<Problem, 'found' | 'expected' | 'nearest'>, path: Path, settling: Settling, instead?: unknown): unknown {
  settling.problems.push({ where: settling.section, key: pathText(path), what, ...more })
  return structuredClone(instead)
}
