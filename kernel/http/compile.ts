/** Turns a plugin's route groups into apps, each in a shell of the kernel's, and says what the kernel refuses. Elysia compiles an app when it is first asked. */
import { type AnyElysia, Elysia } from 'elysia'
import type { Access, RouteApp, RouteGroup, RouteGroupOptions } from '../contract/access.ts'
import type { Problem } from '../contract/problem.ts'
import type { ScopeRef } from '../contract/refs.ts'
import { contextOf } from '../contract/request.ts'
import type { SocketRoute } from '../contract/socket.ts'
import { kernelAdapter } from './adapter.ts'
import type { Context } from './context.ts'

/** One route, or one socket: where a request goes. */
export interface Target {
  readonly group: CompiledGroup
  /** `WS` for a socket. */
  readonly method: string
  /** Its path as written. */
  readonly template: string
  /** Its body, if it has one, must be JSON. */
  readonly takesJson: boolean
  readonly socket?: SocketRoute
}

/** A group's app, ready to be forwarded to; or one socket, which has none. */
export interface CompiledGroup {
  readonly plugin: string
  readonly access: Access
  readonly options: RouteGroupOptions
  readonly app?: AnyElysia
  readonly routes: readonly Target[]
}

/** What a plugin contributes to the table. */
export interface CompiledPlugin {
  readonly plugin: string
  readonly paths: readonly string[]
  readonly groups: readonly CompiledGroup[]
}

/** True if the path lies under the root, in whole segments; `/` covers only itself. */
export function isUnder(path: string, root: string): boolean {
  return path === root || (root !== '/' && path.startsWith(root.endsWith('/') ? root : `${root}/`))
}

/** Reports what is refused. */
type Refuse = (key: string, what: string, more?: Pick<Problem, 'found' | 'expected'>) => void

/** Builds. A builder that throws, or does what is refused, becomes a problem; nothing is thrown. */
export async function compilePlugin(
  plugin: string,
  paths: readonly string[],
  routes: readonly RouteGroup[],
  sockets: readonly SocketRoute[],
): Promise<{ compiled: CompiledPlugin; problems: Problem[] }> {
  const problems: Problem[] = []
  const refuse: Refuse = (key, what, more) => void problems.push({ where: plugin, key, what, ...more })
  const groups: CompiledGroup[] = []
  for (const [index, group] of routes.entries()) {
    const key = `routes[${index}]`
    if (group?.kind !== 'routes') {
      const found = group instanceof Elysia ? 'an Elysia app' : typeof group
      refuse(key, 'is a group without access', { found, expected: 'open(…), optional(scope, …), guard(scope, …) or signed(…)' })
      continue
    }
    await compileGroup(plugin, group, refuse).then(
      (compiled) => groups.push(compiled),
      (error: unknown) => refuse(key, `its builder failed: ${error instanceof Error ? error.message : String(error)}`),
    )
  }
  groups.push(...sockets.map((socket) => socketGroup(plugin, socket)))
  checkPaths(
    groups.flatMap((group) => group.routes),
    paths,
    refuse,
  )
  return { compiled: { plugin, paths, groups }, problems }
}

async function compileGroup(plugin: string, { access, build, options }: RouteGroup, refuse: Refuse): Promise<CompiledGroup> {
  const ws = (_app: AnyElysia, path: string) => refuse(path, '.ws is not available', { expected: "a socket in setup's result: sockets: [{ path, access, … }]" })
  const shell: AnyElysia = new Elysia({ adapter: { ...kernelAdapter, ws }, aot: true, normalize: false, name: `portico:${plugin}` }).onError(
    ({ request, error }) => (contextOf(request) as Context).fail(error),
  )
  const built = build(shell as unknown as RouteApp)
  if (built !== shell) refuse('routes', 'a builder returned another app than the one it was given', { expected: 'app => app.get(…)' })
  await shell.modules
  const routes: Target[] = []
  const group: CompiledGroup = { plugin, access, options, routes, app: shell }
  for (const { method, path, hooks } of shell.routes) {
    const asked = hooks as { body?: unknown; parse?: unknown; config?: { mount?: unknown } }
    if (method === 'ALL') refuse(path, `${asked.config?.mount === undefined ? '.all' : '.mount'} is refused`, { expected: 'one route per method' })
    const isParserAsked = asked.parse !== undefined && (!Array.isArray(asked.parse) || asked.parse.length > 0)
    // Without a parser of its own a body with a schema is JSON and nothing else; the document says so too.
    if (!isParserAsked && asked.body !== undefined && method !== 'GET' && method !== 'HEAD') asked.parse = [{ fn: 'json' }]
    routes.push({ group, method, template: path || '/', takesJson: !isParserAsked && (access.kind !== 'signed' || asked.body !== undefined) })
  }
  return group
}

function socketGroup(plugin: string, socket: SocketRoute): CompiledGroup {
  const access: Access = socket.access === 'open' ? { kind: 'open' } : { kind: 'guard', scopes: [socket.access].flat() as readonly ScopeRef[] }
  const routes: Target[] = []
  const group: CompiledGroup = { plugin, access, options: { stream: true }, routes }
  routes.push({ group, method: 'WS', template: socket.path, takesJson: false, socket })
  return group
}

function checkPaths(routes: readonly Target[], roots: readonly string[], refuse: Refuse): void {
  const names = new Map<string, { name: string; path: string }>()
  for (const { method, template: path } of routes) {
    const key = `${method} ${path}`
    if (!roots.some((root) => isUnder(path, root)))
      refuse(key, 'the route lies outside the roots of its plugin', { expected: roots.length === 0 ? 'a root in paths' : `a path under ${roots.join(', ')}` })
    const segments = path.split('/').slice(1)
    let place = ''
    for (const [index, segment] of segments.entries()) {
      if (/^:.*\?$/.test(segment)) refuse(key, 'optional parameters are refused', { expected: 'two routes' })
      else if (segment.indexOf(':', 1) > 0) refuse(key, 'a colon inside a path segment is refused', { expected: 'a wildcard that the plugin splits itself' })
      else if (segment.includes('*') && (segment !== '*' || index !== segments.length - 1))
        refuse(key, 'a wildcard stands only at the end', { expected: `${segments.slice(0, index).join('/')}/*` })
      const isParameter = segment.startsWith(':')
      place += `/${isParameter ? ':' : segment}`
      if (!isParameter) continue
      const first = names.get(place) ?? { name: segment, path }
      names.set(place, first)
      // Elysia would throw at the first request.
      if (first.name !== segment)
        refuse(path, 'two parameter names at one place', { found: `${segment}, and ${first.name} in ${first.path}`, expected: first.name })
    }
  }
}
