/** The registry: the tools that there are, by their names, and how one is called. What a run does with an answer is not its matter. */
import { GatewayError, isGatewayError, type JsonSchema, type Logger, nearestName } from 'portico'
import { toJsonSchema } from 'portico/plugins/docs'
import { isToolSuspended, type ListedTool, type Tool, type ToolContext, type ToolOutput, type ToolRegistry, type ToolResult } from './contract.ts'
import { type Check, compileJsonSchema } from './json-schema.ts'
import { capOutput } from './output.ts'
import { fromWireName, toWireName } from './wire-names.ts'

/** ms; what timers take. */
const maxTimeout = 2 ** 31 - 1

/** What it works with. */
export interface RegistryOptions {
  /** The slot's items, the same array until they change. */
  items(): readonly Tool[]
  readonly log: Logger
  /** Characters of one answer. */
  readonly maxOutput: number
  /** Risks by name that an operator has set. */
  readonly risk?: Readonly<Record<string, Tool['risk']>>
  /** True for an error that says that the database is away. */
  isUnavailable?(error: unknown): boolean
}

interface Entry {
  readonly tool: Tool
  readonly listed: ListedTool
  /** Compiled at the first call. */
  input?: Promise<Check>
  output?: Promise<Check>
}

interface Table {
  readonly entries: readonly Entry[]
  readonly byName: ReadonlyMap<string, Entry>
  readonly byWireName: ReadonlyMap<string, Entry>
}

/** Makes it. */
export function createRegistry({ items, log, maxOutput, risk = {}, isUnavailable = () => false }: RegistryOptions): ToolRegistry {
  let seen: readonly Tool[] | undefined
  let table: Table = { entries: [], byName: new Map(), byWireName: new Map() }

  function current(): Table {
    const now = items()
    if (now === seen) return table
    seen = now
    const byName = new Map<string, Entry>()
    const byWireName = new Map<string, Entry>()
    for (const tool of now) {
      const fault = faultOf(tool) ?? (byName.has(tool.name) ? 'there is another of that name, and the first one stays: rename or disable one' : undefined)
      if (fault) {
        log.error('A tool is not offered', { tool: String(tool?.name), why: fault })
        continue
      }
      const entry: Entry = { tool, listed: toListed(tool, Object.hasOwn(risk, tool.name) ? risk[tool.name] : undefined) }
      byName.set(tool.name, entry)
      byWireName.set(entry.listed.wireName, entry)
    }
    for (const name of Object.keys(risk)) if (!byName.has(name)) log.debug('tools.risk names a tool that there is not', { tool: name })
    const entries = [...byName.values()].sort((a, b) => (a.tool.name < b.tool.name ? -1 : 1))
    table = { entries, byName, byWireName }
    return table
  }

  const find = (name: string) => current().byWireName.get(name) ?? current().byName.get(name)

  async function run(entry: Entry, input: unknown, ctx: ToolContext): Promise<ToolResult> {
    const { tool, listed } = entry
    entry.input ??= compileJsonSchema(listed.input as JsonSchema)
    const wrong = (await entry.input)(input)
    if (wrong) throw new GatewayError('validation_failed', `The input of ${tool.name} is not what it takes: ${wrong}.`)
    const { structured, parts } = capOutput(await timed(tool, input, ctx), maxOutput)
    if (structured !== undefined && listed.output) {
      entry.output ??= compileJsonSchema(listed.output as JsonSchema)
      const fault = (await entry.output)(structured)
      if (fault) throw new Error(`The structured output is not what its schema says: ${fault}`)
    }
    return { isError: false, parts, ...(structured === undefined ? {} : { structured }) }
  }

  return {
    list: () => current().entries.map(({ listed }) => listed),
    find: (name) => find(name)?.listed,
    async call(name, input, ctx) {
      ctx.signal.throwIfAborted()
      const entry = find(name)
      if (!entry) {
        const asked = fromWireName(name) ?? name
        const nearest = nearestName(asked, current().byName.keys())
        return failed('not_found', `There is no tool ${JSON.stringify(asked.slice(0, 100))}${nearest ? `; did you mean ${nearest}?` : '.'}`)
      }
      if (entry.listed.risk === 'forbidden') return failed('forbidden', `${entry.tool.name} may not be called here. Go on without it.`)
      try {
        return await run(entry, input, ctx)
      } catch (error) {
        ctx.signal.throwIfAborted()
        if (isToolSuspended(error)) throw error
        if (isUnavailable(error)) return failed('database_unavailable', 'The database does not answer. Try again later.')
        // The slot's guard has logged, and hidden, what is not the tool's own word.
        if (isGatewayError(error) && error.code !== 'plugin_failed') return failed(error.code, capMessage(error.message))
        if (!isGatewayError(error)) log.error('A tool failed', { tool: entry.tool.name, runId: ctx.runId, callId: ctx.callId, error })
        return failed('internal_error', `${entry.tool.name} failed inside. The log has it, under ${ctx.callId}. Trying again may help once.`)
      }
    },
  }
}

/**
 * The call under its time. It ends when the run is cancelled, when its time is over, and when it asks what nobody has answered, whether the tool hears its signal
 * or not; what a tool does after that reaches nobody.
 */
async function timed(tool: Tool, input: unknown, ctx: ToolContext): Promise<ToolOutput> {
  const over = new AbortController()
  const late = () => over.abort(new GatewayError('deadline_exceeded', `${tool.name} did not end within ${tool.timeout} ms, and was given up.`))
  const cancel = () => over.abort(ctx.signal.reason)
  const suspending = async <T>(wait: () => Promise<T>): Promise<T> => {
    over.signal.throwIfAborted()
    try {
      return await wait()
    } catch (error) {
      if (!isToolSuspended(error)) throw error
      // Here the call ends, also of a tool that catches everything; to it, and to the slot's guard, it is a cancellation.
      over.abort(error)
      throw Object.assign(new Error('The tool waits, and is called again when it need not any more', { cause: error }), { name: 'AbortError' })
    }
  }
  const own: ToolContext = {
    ...{ principal: ctx.principal, runId: ctx.runId, callId: ctx.callId, signal: over.signal, log: ctx.log, workspace: ctx.workspace },
    ask: (...question) => suspending(() => ctx.ask(...question)),
    waitFor: (runId) => suspending(() => ctx.waitFor(runId)),
    progress: (message, fraction) => {
      if (!over.signal.aborted) ctx.progress(message, fraction)
    },
    async sample(request) {
      over.signal.throwIfAborted()
      return ctx.sample(request)
    },
  }
  const timer = setTimeout(late, Math.min(tool.timeout, maxTimeout))
  ctx.signal.addEventListener('abort', cancel, { once: true })
  try {
    return await new Promise<ToolOutput>((resolve, reject) => {
      over.signal.addEventListener('abort', () => reject(over.signal.reason), { once: true })
      Promise.resolve()
        .then(() => tool.run(input as never, own))
        .then(resolve, reject)
    })
  } finally {
    clearTimeout(timer)
    ctx.signal.removeEventListener('abort', cancel)
    over.abort(new Error('The call has ended'))
  }
}

function failed(code: string, message: string): ToolResult {
  return { isError: true, code, parts: [{ type: 'text', text: `${code}: ${message}` }] }
}

function capMessage(message: string): string {
  return message.length > 2_000 ? `${message.slice(0, 2_000)}…` : message
}

/** Why it cannot be offered. */
function faultOf(tool: Tool): string | undefined {
  if (typeof tool !== 'object' || tool === null || typeof tool.run !== 'function') return 'it has no run(): make it with defineTool'
  if (typeof tool.name !== 'string' || tool.name === '' || tool.name.length > 256) return 'its name is no text of 1 to 256 characters'
  if (typeof tool.description !== 'string' || tool.description === '') return 'it has no description, by which a model knows it'
  if (!['safe', 'gated', 'forbidden'].includes(tool.risk)) return 'its risk is none of safe, gated, forbidden'
  if (!(tool.timeout > 0)) return 'its timeout is no number of ms over 0'
  return (tool.input as { type?: unknown } | null)?.type === 'object' ? undefined : 'its input is no schema of an object'
}

function toListed({ name, description, input, output, risk, idempotent, timeout }: Tool, set?: Tool['risk']): ListedTool {
  return {
    ...{ name, wireName: toWireName(name), description, input: toJsonSchema(input), risk: set ?? risk, idempotent: idempotent === true, timeout },
    ...(output === undefined ? {} : { output: toJsonSchema(output) }),
  }
}
