/** The methods there are, with their params checked. */
import { compileCheck, GatewayError, hasScope, nearestName } from 'portico'
import { toJsonSchema } from 'portico/plugins/docs'
import type { RpcCall, RpcMethod } from './contract.ts'
import { type Answer, type Call, codes, failure, failureOf } from './protocol.ts'

interface Compiled {
  readonly method: RpcMethod
  readonly wrongParams: ReturnType<typeof compileCheck>
  readonly wrongResult: ReturnType<typeof compileCheck>
}

/** Calls methods. */
export interface Methods {
  /** The answer as JSON; undefined for a notification. Never rejects. */
  call(call: Call, context: RpcCall): Promise<string | undefined>
  /** Those that this caller may call, by name. */
  describe(may: (scope: string) => boolean): { name: string; summary: string; scope: string; params: unknown; result: unknown }[]
}

/** Told of what is wrong with a method: its result, its own form, or that there are two of its name. */
export interface MethodHooks {
  report(method: string, error: unknown): void
  twice(name: string): void
}

/** Makes it. */
export function createMethods(items: () => readonly RpcMethod[], hooks: MethodHooks): Methods {
  let seen: readonly RpcMethod[] | undefined
  let byName = new Map<string, Compiled>()

  function current(): ReadonlyMap<string, Compiled> {
    const now = items()
    if (now === seen) return byName
    seen = now
    byName = new Map()
    for (const method of now) {
      if (byName.has(method.name)) hooks.twice(method.name)
      else
        try {
          byName.set(method.name, compile(method))
        } catch (error) {
          hooks.report(String(method.name), error)
        }
    }
    return byName
  }

  async function run({ method, wrongParams, wrongResult }: Compiled, given: Call['params'], context: RpcCall): Promise<unknown> {
    const named = toNamed(given, method.params)
    const wrong = wrongParams(named)
    if (wrong) {
      const where = wrong.path.slice(1).replaceAll('/', '.') || 'params'
      throw new GatewayError('validation_failed', `${where}: ${wrong.message}. system.describe shows what ${method.name} takes.`, { param: where })
    }
    const value = await method.run(named as never, context)
    const fault = wrongResult(value)
    if (fault) {
      hooks.report(method.name, new Error(`The result of ${method.name} is not what its schema says, at ${fault.path}: ${fault.message}`))
      throw new GatewayError('internal_error', 'The result is not what it should be.')
    }
    return value
  }

  return {
    async call(call, context) {
      const id = call.id ?? null
      const answer = await answerTo(call, context).catch((error: unknown) => failureOf(id, error))
      if (call.id === undefined) return undefined
      try {
        return JSON.stringify(answer)
      } catch (error) {
        hooks.report(call.method, new Error('What it gave is no JSON', { cause: error }))
        return JSON.stringify(failure(id, codes.internal))
      }
    },
    describe: (may) =>
      [...current().values()]
        .filter(({ method }) => may(method.scope.id))
        .map(({ method: { name, summary, scope, params, result } }) => ({
          ...{ name, summary, scope: scope.id, params: toJsonSchema(params), result: toJsonSchema(result) },
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
  }

  async function answerTo({ method: name, params, id = null }: Call, context: RpcCall): Promise<Answer> {
    const found = current().get(name)
    if (!found) {
      const nearest = nearestName(name, current().keys())
      return failure(id, codes.method, `There is no method ${JSON.stringify(name.slice(0, 100))}${nearest ? `; did you mean ${nearest}?` : '.'}`)
    }
    const { scope } = found.method
    // Whoever has the connection may use it.
    if (scope.id !== 'ws' && !hasScope(context.principal, scope.id)) throw new GatewayError('insufficient_scope', `${name} needs the scope "${scope.id}".`)
    const result = await run(found, params, context)
    // An answer has a result (§5), whatever a method leaves out.
    return { jsonrpc: '2.0', result: result === undefined ? null : result, id }
  }
}

/** @throws on one that cannot be called: the others are not to suffer. */
function compile(method: RpcMethod): Compiled {
  const { name, scope, params, result, run } = method
  if (typeof name !== 'string' || name === '' || typeof scope?.id !== 'string' || typeof run !== 'function')
    throw new Error('A method has a name, a scope and a run(): make it with defineRpcMethod')
  if (name.startsWith('rpc.')) throw new Error('Names that begin with "rpc." are the protocol’s own (§4.3): choose another')
  return { method, wrongParams: compileCheck(params), wrongResult: compileCheck(result) }
}

/** Params by position get the names of the schema's properties, in their order; of a schema for an array they stay as they are (§4.2). */
function toNamed(given: Call['params'], schema: unknown): unknown {
  const { type, properties = {} } = schema as { type?: string; properties?: Record<string, unknown> }
  if (type === 'array') return given ?? []
  if (!Array.isArray(given)) return given ?? {}
  const names = Object.keys(properties)
  if (given.length > names.length)
    throw new GatewayError('validation_failed', `There are ${given.length} params, but at most ${names.length} places: ${names.join(', ') || 'none'}.`)
  return Object.fromEntries(given.map((value, place) => [names[place] ?? '', value]))
}
