/** The plan for commands that look before anything is started: opens no database, listens on nothing. */
import { planGateway } from '../boot/planning.ts'
import { type RawConfig, type ResolvedSecret, redactConfig } from '../config/index.ts'
import { formatProblem } from '../contract/problem.ts'
import type { CommandPlan } from './command.ts'
import type { CommandOptions } from './commands.ts'

/** Reads the config and every descriptor. */
export async function planCommand(options: CommandOptions): Promise<CommandPlan> {
  const { plan, raw } = await planGateway(options)
  return {
    file: raw.file,
    dataDir: raw.dataDir,
    warnings: exposedSecrets(raw, plan.resolved.secrets),
    problems: plan.problems.map((problem) => ({ ...problem, text: formatProblem(problem) })),
    values: redactConfig(plan.resolved),
    sections: plan.sections,
  }
}

/** A sentence for each literal secret in a file that others can read, with the command that mends it. */
export function exposedSecrets(raw: RawConfig, secrets: readonly ResolvedSecret[]): string[] {
  const literals = raw.privateFile ? [] : secrets.filter(({ reference }) => reference === null)
  return literals.map(
    ({ section, key }) => `[${section}] ${key} stands in a file that others can read: chmod 600 ${raw.file}, or write "env:NAME" or "file:PATH" instead.`,
  )
}
