/** What the parts of settling share: where they are, what they collect, the check of one value. */
import { FormatRegistry } from '@sinclair/typebox'
import { Check } from '@sinclair/typebox/value'
import type { Problem } from '../contract/problem.ts'
import type { TSchema } from '../contract/schema.ts'
import type { RawConfig } from './read.ts'
import { type Path, pathText } from './table.ts'

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
  readonly raw: RawConfig
  readonly problems: Problem[]
  readonly secrets: ResolvedSecret[]
}

/** True if the value is valid; formats nobody registered are not checked. */
export function passes(schema: TSchema, value: unknown): boolean {
  const { format, ...rest } = schema
  return Check(format === undefined || FormatRegistry.Has(format) ? schema : (rest as TSchema), value)
}

/** Reports a problem; what stands instead of the value is the default, if there is one. */
export function fault(settling: Settling, path: Path, problem: Pick<Problem, 'what' | 'found' | 'expected' | 'nearest'>, preset?: unknown): unknown {
  settling.problems.push({ where: settling.section, key: pathText(path), ...problem })
  return structuredClone(preset)
}
