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
export function formatProblem(problem: Problem): string {
  const parts = [`[${problem.where}]${problem.key === undefined ? '' : ` ${problem.key}:`} ${problem.what}`]
  if (problem.found !== undefined) parts.push(`found ${problem.found}`)
  if (problem.expected !== undefined) parts.push(`expected ${problem.expected}`)
  if (problem.nearest !== undefined) parts.push(`did you mean "${problem.nearest}"?`)
  return parts.join('; ')
}

/** Everything that keeps the gateway from starting, in one error. */
export class PlanError extends GatewayError {
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[], code: 'plan_invalid' | 'config_invalid' = 'plan_invalid') {
    super(
      code,
      `The gateway cannot start, ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}:\n${problems.map((p) => `  - ${formatProblem(p)}`).join('\n')}`,
      {
        details: problems,
      },
    )
    this.problems = problems
  }
}

/** The known name nearest to `word` by edit distance, if it is near enough to be meant. */
export function nearestName(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const name of known) {
    const distance = editDistance(word.toLowerCase(), name.toLowerCase(), bestDistance)
    if (distance < bestDistance) {
      best = name
      bestDistance = distance
    }
  }
  return best
}

function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length] ?? limit
}
