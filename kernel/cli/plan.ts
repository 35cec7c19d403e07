/** The plan for commands that look before anything is started: opens no database, listens on nothing. */
import { planGateway } from '../boot/planning.ts'
import { exposedSecrets, redactConfig } from '../config/index.ts'
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
