/** Turns a plugin's route groups into compiled apps, each in a shell of the kernel's, and says what the kernel refuses. */
import { type AnyElysia, Elysia } from 'elysia'
import type { Access, RouteApp, RouteGroup, RouteGroupOptions } from '../contract/access.ts'
import { PlanError, type Problem } from '../contract/problem.ts'
import { contextOf } from '../contract/request.ts'
import type { SocketRoute } from '../contract/socket.ts'
import { kernelAdapter } from './adapter.ts'
import type { Context } from './context.ts'

/** One route of a group, or one socket. */
export interface CompiledRoute {
  readonly method: string
  readonly path: string
  readonly takesJson: boolean
  readonly socket?: SocketRoute
}

/** A group's app, ready to be forwarded to. */
export interface CompiledGroup {
  readonly plugin: string
  readonly access: Access
  readonly options: RouteGroupOptions
  readonly app: AnyElysia
  readonly routes: readonly CompiledRoute[]
}

/** What a plugin contributes to the table. Each socket is a group of its own. */
export interface CompiledPlugin {
  readonly plugin: string
  readonly paths: readonly string[]
  readonly groups: readonly CompiledGroup[]
  readonly sockets: readonly CompiledGroup[]
}

/** The path with its parameters renamed by position and without a slash at the end: equal shapes are one place. */
export function toShape(path: string): string {
  return path.replace(/:[^/]+/g, ':').replace(/(.)\/$/, '$1')
}

/** True if the path lies under the root, in whole segments; `/` covers only itself. */
export function isUnder(path: string, root: string): boolean {
  return path === root || (root !== '/' && path.startsWith(root.endsWith('/') ? root : `${root}/`))
}

/** Builds and compiles. A builder that throws, or does what is refused, becomes a problem; nothing is thrown. */
export async function compilePlugin(
  plugin: string,
  paths: readonly string[],
  routes: readonly RouteGroup[],
  sockets: readonly SocketRoute[],
): Promise<{ compiled: CompiledPlugin; problems: Problem[] }> {
  const problems: Problem[] = []
  const groups: CompiledGroup[] = []
  for (const [index, group] of routes.entries()) {
    const key = `routes[${index}]`
    if (!isRouteGroup(group)) {
      problems.push({
        where: plugin,
        key,
        what: 'is a group without access',
        found: describe(group),
        expected: 'open(…), optional(scope, …), guard(scope, …) or signed(…)',
      })
      continue
    }
    try {
      groups.push(await compileGroup(plugin, group, (problem) => problems.push({ where: plugin, ...problem })))
    } catch (error) {
      const what = error instanceof PlanError ? error.message : `its builder failed: ${error instanceof Error ? error.message : String(error)}`
      problems.push({ where: plugin, key, what })
    }
  }
  const compiled: CompiledPlugin = { plugin, paths, groups, sockets: sockets.map((socket) => socketGroup(plugin, socket)) }
  const all = [...groups, ...compiled.sockets].flatMap((group) => group.routes)
  for (const { method, path } of all) problems.push(...routeProblems(plugin, paths, method, path))
  return { compiled, problems: [...problems, ...nameProblems(plugin, all)] }
}

async function compileGroup(plugin: string, { access, build, options }: RouteGroup, report: (problem: Omit<Problem, 'where'>) => void): Promise<CompiledGroup> {
  const refuseSocket = (_app: AnyElysia, path: string) =>
    report({ key: path, what: '.ws is not available', expected: "a socket in setup's result: sockets: [{ path, access, … }]" })
  const shell: AnyElysia = new Elysia({ adapter: { ...kernelAdapter, ws: refuseSocket }, aot: true, normalize: false, name: `portico:${plugin}` }).onError(
    ({ request, error }) => {
      ;(contextOf(request) as Context).failure = error ?? new Error('nothing was thrown')
      return failed
    },
  )
  const built = build(shell as unknown as RouteApp)
  if (built !== shell) report({ key: 'routes', what: 'a builder returned another app than the one it was given', expected: 'app => app.get(…)' })
  await shell.modules
  for (const { method, path, hooks } of shell.routes) {
    const isMount = (hooks as { config?: { mount?: unknown } }).config?.mount !== undefined
    if (method === 'ALL') report({ key: path, what: `${isMount ? '.mount' : '.all'} is refused`, expected: 'one route per method' })
  }
  const routes = shell.routes.map(({ method, path, hooks }) => {
    const asked = hooks as { body?: unknown; parse?: unknown }
    const isParserAsked = asked.parse !== undefined && (!Array.isArray(asked.parse) || asked.parse.length > 0)
    // Without a parser of its own a body with a schema is JSON and nothing else; the document says so too.
    if (!isParserAsked && asked.body !== undefined && method !== 'GET' && method !== 'HEAD') asked.parse = [{ fn: 'json' }]
    return { method, path: path === '' ? '/' : path, takesJson: !isParserAsked && (access.kind !== 'signed' || asked.body !== undefined) }
  })
  return { plugin, access, options, routes, app: shell.compile() }
}

const failed = new Response(null, { status: 500 })
const noApp = new Elysia({ adapter: kernelAdapter })

function socketGroup(plugin: string, socket: SocketRoute): CompiledGroup {
  const access: Access = socket.access === 'open' ? { kind: 'open' } : { kind: 'guard', scopes: 'kind' in socket.access ? [socket.access] : socket.access }
  return { plugin, access, options: { stream: true }, app: noApp, routes: [{ method: 'WS', path: socket.path, takesJson: false, socket }] }
}

function isRouteGroup(value: unknown): value is RouteGroup {
  return typeof value === 'object' && value !== null && (value as RouteGroup).kind === 'routes' && typeof (value as RouteGroup).build === 'function'
}

function describe(value: unknown): string {
  return value instanceof Elysia || (typeof value === 'object' && value !== null && 'router' in value) ? 'an Elysia app' : typeof value
}

function routeProblems(plugin: string, roots: readonly string[], method: string, path: string): Problem[] {
  const problems: Problem[] = []
  const problem = (what: string, expected: string) => problems.push({ where: plugin, key: `${method} ${path}`, what, expected })
  if (!roots.some((root) => isUnder(path, root))) {
    problem('the route lies outside the roots of its plugin', roots.length === 0 ? 'a root in paths' : `a path under ${roots.join(', ')}`)
  }
  const segments = path.split('/').slice(1)
  for (const [index, segment] of segments.entries()) {
    if (/^:.*\?$/.test(segment)) problem('optional parameters are refused', 'two routes')
    else if (segment.indexOf(':', 1) > 0) problem('a colon inside a path segment is refused', 'a wildcard that the plugin splits itself')
    else if (segment.includes('*') && (segment !== '*' || index !== segments.length - 1))
      problem('a wildcard stands only at the end', `${segments.slice(0, index).join('/')}/*`)
  }
  return problems
}

/** Two parameter names at one place: Elysia would throw at the first request. */
function nameProblems(plugin: string, routes: readonly CompiledRoute[]): Problem[] {
  const names = new Map<string, { name: string; path: string }>()
  const problems: Problem[] = []
  for (const { path } of routes) {
    let place = ''
    for (const segment of path.split('/').slice(1)) {
      place += `/${segment.startsWith(':') ? ':' : segment}`
      if (!segment.startsWith(':')) continue
      const first = names.get(place)
      if (!first) names.set(place, { name: segment, path })
      else if (first.name !== segment)
        problems.push({
          where: plugin,
          key: path,
          what: 'two parameter names at one place',
          found: `${segment}, and ${first.name} in ${first.path}`,
          expected: first.name,
        })
    }
  }
  return problems
}
