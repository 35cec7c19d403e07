/** What other plugins may know of tools: the slot by which a plugin adds one, and the registry by which runs call them. */
import { defineService, defineSlot, type Logger, type Principal, type Static, type TObject, type TSchema } from 'portico'
import type { RunWorkspace } from 'portico/plugins/workspace'

/** A piece of what a tool returns. `data` is base64. */
export type ToolPart =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'image' | 'audio'; readonly data: string; readonly mediaType: string }
  | { readonly type: 'resource'; readonly uri: string; readonly mediaType?: string; readonly text?: string; readonly data?: string }

/** What a tool returns: a text, or parts, or an object of its `output`. */
export type ToolOutput = string | readonly ToolPart[] | { readonly structured: unknown; readonly content?: readonly ToolPart[] }

/** A question to a model. */
export interface SampleRequest {
  readonly prompt: string
  readonly system?: string
  /** Default: the run's own. */
  readonly model?: string
  readonly maxOutputTokens?: number
}

/** What a tool works with. */
export interface ToolContext {
  /** For whom the run is. */
  readonly principal: Principal
  readonly runId: string
  /** Of the model's; the same when the call is made again after a crash. */
  readonly callId: string
  /** Aborted when the run is cancelled, or the tool's time is over. */
  readonly signal: AbortSignal
  readonly log: Logger
  readonly workspace: RunWorkspace
  /** How far it is, for whoever watches. `fraction` from 0 to 1. */
  progress(message: string, fraction?: number): void
  /**
   * A question to the person. While nobody has answered, nothing waits in memory: the call ends here, and is made again, from its beginning, with the answer at
   * hand. So ask before you do anything that must not be done twice.
   */
  ask(question: string, options?: { choices?: readonly string[] }): Promise<string>
  /**
   * Resolves when another run is over. When that run waits for a person, nothing waits in memory: the call ends here, and is made again, from its beginning, once it
   * is over; so submit it under a key that is the same then.
   */
  waitFor(runId: string): Promise<void>
  /** A call of a model, counted with the run. */
  sample(request: SampleRequest): Promise<string>
}

/** Something a model may call. */
export interface Tool {
  /** `read_file`; any characters, but shown to models as `wireName` gives it. */
  readonly name: string
  /** For the model: what it does, when to use it. */
  readonly description: string
  /** A schema of `t`, or JSON Schema: always an object. */
  readonly input: unknown
  /** Of `structured`. */
  readonly output?: unknown
  /** `gated`: each call waits for an approval. `forbidden`: never called, whoever asks. */
  readonly risk: 'safe' | 'gated' | 'forbidden'
  /** True: a call that may have happened, and of which no result is known, may simply be made again. */
  readonly idempotent: boolean
  /** ms. */
  readonly timeout: number
  run(input: never, ctx: ToolContext): Promise<ToolOutput> | ToolOutput
}

/** A tool whose `run` is given what its `input` says. */
export interface ToolDefinition<Input extends TSchema> extends Omit<Tool, 'input' | 'run'> {
  readonly input: Input
  run(input: Static<Input>, ctx: ToolContext): Promise<ToolOutput> | ToolOutput
}

/** Types the input of `run` by its schema. */
export function defineTool<Input extends TObject>(tool: ToolDefinition<Input>): Tool {
  return tool
}

/** By which plugins add tools. How long a call may take, its `timeout` says. */
export const tools = defineSlot<Tool>('tools', { deadline: Number.POSITIVE_INFINITY })

/** A tool as it is listed. */
export interface ListedTool extends Omit<Tool, 'run' | 'input' | 'output'> {
  /** As models see it: `^[A-Za-z0-9_-]{1,64}$`, and back again. */
  readonly wireName: string
  /** JSON Schema. */
  readonly input: Readonly<Record<string, unknown>>
  readonly output?: Readonly<Record<string, unknown>>
}

/** How a call ended. A failed one is an answer to the model too: the run goes on. */
export interface ToolResult {
  readonly isError: boolean
  /** Capped; what was cut is said at the end. */
  readonly parts: readonly ToolPart[]
  readonly structured?: unknown
  /** Of a failed call: `validation_failed`, `deadline_exceeded`, `not_found`, `forbidden`, `internal_error`, or what the tool threw. */
  readonly code?: string
}

/** The service `toolRegistry`. */
export interface ToolRegistry {
  list(): readonly ListedTool[]
  /** By its name or its wire name. */
  find(name: string): ListedTool | undefined
  /**
   * Checks the input, calls the tool under its timeout, caps what it returns. Never throws for what the tool did; it does throw `ToolSuspended` when the tool
   * asks and nobody has answered yet, and the signal's reason when that aborts.
   */
  call(name: string, input: unknown, ctx: ToolContext): Promise<ToolResult>
}

/** The ref of the service. */
export const toolRegistry = defineService<ToolRegistry>('toolRegistry')

const suspended = Symbol.for('portico.toolSuspended')

/** Thrown by `ToolContext.ask` of whoever runs the tool, and let through by the registry: the run waits for an answer. */
export class ToolSuspended extends Error {
  readonly [suspended] = true
  readonly question: string
  readonly choices: readonly string[]

  constructor(question: string, choices: readonly string[] = []) {
    super('The tool waits for an answer')
    this.name = 'ToolSuspended'
    this.question = question
    this.choices = choices
  }
}

/** True for a `ToolSuspended` of this or another copy of the package. */
export function isToolSuspended(error: unknown): error is ToolSuspended {
  return error instanceof Error && (error as { [suspended]?: true })[suspended] === true
}
