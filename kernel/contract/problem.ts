/** Problems of a start: collected, then reported all at once. Internal to the kernel. */
import { GatewayError } from './errors.ts'

/** One thing that is wrong, for a person to mend. */
export interface Problem {
  /** The plugin's id, or `config`, `gateway`, … */
  readonly where: string
  /** The config key, event type, path, … at fault. */
  readonly key?: string
  /** What is wrong, one sentence without a full stop. */
  readonly what: string
  readonly found?: string
  readonly expected?: string
  /** The nearest known name, when it looks like a slip of the pen. */
  readonly nearest?: string
}

/** One line: `[pager] config key "tokn": unknown key; found …; expected …; did you mean "token"?` */
export function formatProblem({ where, key, what, found, expected, nearest }: Problem): string {
  const parts = [`[${where}]${key === undefined ? '' : ` ${key}:`} ${what}`]
  if (found !== undefined) parts.push(`found ${found}`)
  if (expected !== undefined) parts.push(`expected ${expected}`)
  if (nearest !== undefined) parts.push(`did you mean "${nearest}"?`)
  return parts.join('; ')
}

/** Everything that keeps the gateway from starting, in one error. */
export class PlanError extends GatewayError {
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[]) {
    const lines = problems.map((problem) => `\n  - ${formatProblem(problem)}`)
    super('plan_invalid', `The gateway cannot start, ${lines.length === 1 ? 'one problem' : `${lines.length} problems`}:${lines.join('')}`, {
      details: problems,
    })
    this.problems = problems
  }
}

/** The known name nearest to `word` by edit distance, if it is near enough to be meant. */
export function nearestName(word: string, known: Iterable<string>): string | undefined {
  const near = Math.max(2, Math.floor(word.length / 3))
  const names = [...known].filter((name) => Math.abs(name.length - word.length) <= near)
  const ranked = names.map((name) => ({ name, distance: editDistance(word.toLowerCase(), name.toLowerCase()) })).sort((a, b) => a.distance - b.distance)
  return ranked[0] && ranked[0].distance <= near ? ranked[0].name : undefined
}

/** Levenshtein's distance, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (const [i, char] of [...a].entries()) {
    const next = [i + 1]
    for (const [j, other] of [...b].entries()) next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (char === other ? 0 : 1)))
    row = next
  }
  return row.at(-1) ?? 0
}
