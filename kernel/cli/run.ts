/** Runs one command line: finds the command, runs it, says what went wrong. */

import manifest from '../../package.json' with { type: 'json' }
import { isGatewayError } from '../contract/errors.ts'
import { PlanError } from '../contract/problem.ts'
import { createClient } from './client.ts'
import type { Command, CommandContext } from './command.ts'
import { createCommands } from './commands.ts'
import { exitCode } from './exit-code.ts'
import { commandHelp, createStyle, rootHelp, type Style } from './help.ts'
import { type Arguments, parseCommandLine, UsageError } from './parse.ts'

/** The world around a command. */
export interface CliOptions {
  /** Without the runtime and the script. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  stdout(text: string): void
  stderr(text: string): void
  readonly color: boolean
  /** How the caller wrote `portico`: for "what to type next". */
  readonly name: string
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal
  /** Starts this process anew in place, with the environment; absent = never. */
  restart?(env: Record<string, string>): void
}

/** What the kernel's own commands get besides. */
export interface KernelCommandContext extends CommandContext {
  readonly cli: CliOptions
  readonly style: Style
}

/** Runs the command line and returns the exit code. */
export async function runCli(options: CliOptions): Promise<number> {
  const style = createStyle(options.color)
  const json = beforeArguments(options.argv).includes('--json')
  try {
    const { env, cwd } = options
    const flags = { config: flagValue(options.argv, '--config'), dataDir: flagValue(options.argv, '--data-dir') }
    const commands = createCommands({ flags, env, cwd })
    const { path, command, args } = await parseCommandLine(options.argv, commands)
    if (args.version) options.stdout(json ? `${JSON.stringify({ version: manifest.version })}\n` : `${manifest.version}\n`)
    else if (command === null) options.stdout(`${rootHelp(await commands.list(), style)}\n`)
    else if (args.help) options.stdout(`${commandHelp(path, command, style)}\n`)
    else if (!command.run) throw new UsageError(`portico ${path.join(' ')} needs a command: ${Object.keys(command.commands ?? {}).join(', ')}`, path)
    else return await runCommand(command.run.bind(command), args, options, style)
    return command === null && !args.version && !args.help ? exitCode.usage : exitCode.done
  } catch (error) {
    return report(error, { options, style, json })
  }
}

async function runCommand(run: NonNullable<Command['run']>, args: Arguments, options: CliOptions, style: Style): Promise<number> {
  const { env, cwd, signal } = options
  const json = args.json === true
  const flags = { config: text(args.config), dataDir: text(args.dataDir) }
  const note = (line: string) => (json ? undefined : options.stderr(`${style.dim(line)}\n`))
  const client = createClient({ flags, env, cwd, signal, opened: () => note('No gateway is running on this data folder: the command opens it itself.') })
  const context: KernelCommandContext = {
    ...{ args, json, signal, note, cli: options, style },
    fetch: client.fetch,
    request: client.request,
    plan: async () => (await import('./plan.ts')).planCommand({ flags, env, cwd }),
    inspect: async (name) => (await import('./inspect.ts')).inspectPlugin(name, cwd),
    print: (value, shown) => options.stdout(json || shown === undefined ? `${JSON.stringify(value, null, json ? undefined : 2)}\n` : `${shown}\n`),
  }
  try {
    return (await run(context)) ?? exitCode.done
  } finally {
    await client.close()
  }
}

interface ReportOptions {
  readonly options: CliOptions
  readonly style: Style
  readonly json: boolean
}

function report(error: unknown, { options, style, json }: ReportOptions): number {
  const usage = error instanceof UsageError
  const message = error instanceof Error ? error.message : String(error)
  if (json) {
    const code = usage ? 'usage' : isGatewayError(error) ? error.code : 'internal_error'
    const details = isGatewayError(error) ? error.details : undefined
    options.stderr(`${JSON.stringify({ error: { code, message, details } })}\n`)
  } else if (usage) options.stderr(`${style.red('portico:')} ${message}\nSee: ${['portico', ...error.path, '--help'].join(' ')}\n`)
  else {
    options.stderr(`${style.red('portico:')} ${message}\n`)
    // What a database, file or socket said is the why of an error that has none of its own.
    if (error instanceof Error && error.cause instanceof Error && !(error instanceof PlanError))
      options.stderr(`${style.dim(`Cause: ${error.cause.message}`)}\n`)
  }
  return usage ? exitCode.usage : exitCode.failed
}

function beforeArguments(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--')
  return end < 0 ? argv : argv.slice(0, end)
}

// The config decides which commands there are, so it is looked for before the line is parsed; a wrong form of the flag is the parser's to report.
function flagValue(argv: readonly string[], flag: string): string | undefined {
  const words = beforeArguments(argv)
  const at = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`))
  const word = words[at]
  return word === undefined ? undefined : word === flag ? words[at + 1] : word.slice(flag.length + 1)
}

function text(value: Arguments[string]): string | undefined {
  return typeof value === 'string' ? value : undefined
}
