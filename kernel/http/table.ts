/** The route table: every route of every plugin by its shape, so that a request finds its group, and two plugins never share an address. */
import type { RouteGroupInfo, RouteInfo } from '../contract/kernel-service.ts'
import type { Problem } from '../contract/problem.ts'
import { type CompiledPlugin, isUnder, type Target } from './compile.ts'

/** What becomes of one plugin's roots: its routes, or 503 with the reason. */
export type TableEntry =
  | { readonly state: 'ready'; readonly compiled: CompiledPlugin }
  | { readonly state: 'failed' | 'blocked' | 'stopped'; readonly plugin: string; readonly paths: readonly string[]; readonly reason: string }

/** A plugin that does not run. */
type DownEntry = Exclude<TableEntry, { state: 'ready' }>

/** The routes in force. It is never changed, only replaced. */
export class RouteTable {
  readonly routes: readonly RouteInfo[]
  readonly groups: readonly RouteGroupInfo[]
  readonly #trees: ReadonlyMap<string, Tree>
  readonly #down: readonly { root: string; entry: DownEntry }[]

  constructor(plugins: readonly CompiledPlugin[], down: readonly DownEntry[], trees: ReadonlyMap<string, Tree>) {
    const groups = plugins.flatMap((compiled) => compiled.groups)
    this.#trees = trees
    this.#down = down.flatMap((entry) => entry.paths.map((root) => ({ root, entry }))).sort((a, b) => b.root.length - a.root.length)
    this.groups = groups.flatMap(({ plugin, access, app }) => (app ? [{ plugin, access, app }] : []))
    this.routes = groups.flatMap(({ plugin, access, options, routes }) =>
      routes.map(({ method, template }) => ({ plugin, method, path: template, access, stream: options.stream === true })),
    )
  }

  /** The route of this method (`WS` for sockets); HEAD finds GET's. A slash at the end does not matter. */
  find(method: string, path: string): Target | undefined {
    const key = withoutSlash(path)
    return this.#trees.get(method)?.find(key) ?? (method === 'HEAD' ? this.#trees.get('GET')?.find(key) : undefined)
  }

  /** The methods that this path does have, for `Allow`. */
  allowed(path: string): string[] {
    const methods = [...this.#trees.keys()].filter((method) => method !== 'WS' && this.find(method, path))
    if (methods.includes('GET') && !methods.includes('HEAD')) methods.push('HEAD')
    return methods.length === 0 ? methods : [...methods, 'OPTIONS']
  }

  /** The plugin that owns this path but does not run; the longest root wins. */
  down(path: string): DownEntry | undefined {
    return this.#down.find(({ root }) => isUnder(path, root))?.entry
  }
}

/** Puts the plugins' routes together. Equal shapes in two groups are problems; the table then holds the first. */
export function assembleTable(entries: readonly TableEntry[]): { table: RouteTable; problems: Problem[] } {
  const problems: Problem[] = []
  const trees = new Map<string, Tree>()
  const plugins = entries.flatMap((entry) => (entry.state === 'ready' ? [entry.compiled] : []))
  for (const target of plugins.flatMap(({ groups }) => groups.flatMap(({ routes }) => routes))) {
    const { group, method, template } = target
    const tree = trees.get(method) ?? new Tree()
    const first = trees.set(method, tree) && tree.add(target)
    if (first === target) continue
    const owner = first.group.plugin
    problems.push({
      where: group.plugin,
      key: `${method} ${template}`,
      what: `the route has the same shape as one of ${owner === group.plugin ? 'another group of this plugin' : `the plugin "${owner}"`}`,
      found: `${owner}: ${method} ${first.template}`,
      expected: 'every method and path in one group only',
    })
  }
  const down = entries.flatMap((entry) => (entry.state === 'ready' ? [] : [entry]))
  return { table: new RouteTable(plugins, down, trees), problems }
}

const withoutSlash = (path: string) => (path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path)

/** Children by segment, or by what stands for any segment, or for all that follow: no segment has a slash. */
interface Node {
  readonly children: Map<string, Node>
  target?: Target
}
const parameter = '/:'
const rest = '/*'

/** The routes of one method: a map for fixed paths, else by segment: literal before parameter before wildcard. */
class Tree {
  readonly #fixed = new Map<string, Target>()
  readonly #root: Node = { children: new Map() }

  /** Adds a route, unless there is one of its shape; returns the one that is there. */
  add(target: Target): Target {
    const path = withoutSlash(target.template)
    let node = this.#root
    for (const segment of path.slice(1).split('/')) {
      const key = segment === '*' ? rest : segment.startsWith(':') ? parameter : segment
      const next: Node = node.children.get(key) ?? { children: new Map() }
      node.children.set(key, next)
      node = next
    }
    node.target ??= target
    if (!/[:*]/.test(path)) this.#fixed.set(path, node.target)
    return node.target
  }

  find(path: string): Target | undefined {
    return this.#fixed.get(path) ?? walk(this.#root, path, 1)
  }
}

function walk({ children, target }: Node, path: string, from: number): Target | undefined {
  if (from > path.length) return target
  const slash = path.indexOf('/', from)
  const end = slash === -1 ? path.length : slash
  const literal = children.get(path.slice(from, end))
  const any = end > from ? children.get(parameter) : undefined
  return (literal && walk(literal, path, end + 1)) ?? (any && walk(any, path, end + 1)) ?? children.get(rest)?.target
}
