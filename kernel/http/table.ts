/** The route table: every route of every plugin by its shape, so that a request finds its group, and two plugins never share an address. */
import type { RouteGroupInfo, RouteInfo } from '../contract/kernel-service.ts'
import type { Problem } from '../contract/problem.ts'
import type { SocketRoute } from '../contract/socket.ts'
import { type CompiledGroup, type CompiledPlugin, isUnder, toShape } from './compile.ts'

/** What becomes of one plugin's roots: its routes, or 503 with the reason. */
export type TableEntry =
  | { readonly state: 'ready'; readonly compiled: CompiledPlugin }
  | { readonly state: 'failed' | 'blocked' | 'stopped'; readonly plugin: string; readonly paths: readonly string[]; readonly reason: string }

/** Where a request goes. */
export interface Target {
  readonly group: CompiledGroup
  readonly template: string
  /** Its body, if it has one, must be JSON. */
  readonly takesJson: boolean
  /** Set for sockets; `group` is then one made for it. */
  readonly socket?: SocketRoute
}

/** A plugin that does not run. */
export type DownEntry = Exclude<TableEntry, { state: 'ready' }>

/** The routes in force. It is never changed, only replaced. */
export class RouteTable {
  readonly routes: readonly RouteInfo[]
  readonly groups: readonly RouteGroupInfo[]
  /** Roots of the plugins that run. */
  readonly roots: readonly { plugin: string; paths: readonly string[] }[]
  readonly #trees: ReadonlyMap<string, Tree>
  readonly #down: readonly { root: string; entry: DownEntry }[]

  constructor(entries: readonly TableEntry[], trees: ReadonlyMap<string, Tree>) {
    const ready = entries.flatMap((entry) => (entry.state === 'ready' ? [entry.compiled] : []))
    this.#trees = trees
    this.roots = ready.map(({ plugin, paths }) => ({ plugin, paths }))
    this.groups = ready.flatMap(({ groups }) => groups.map(({ plugin, access, app }) => ({ plugin, access, app })))
    this.routes = ready.flatMap(({ groups, sockets }) =>
      [...groups, ...sockets].flatMap(({ plugin, access, options, routes }) =>
        routes.map(({ method, path }) => ({ plugin, method, path, access, stream: options.stream === true })),
      ),
    )
    this.#down = entries
      .flatMap((entry) => (entry.state === 'ready' ? [] : entry.paths.map((root) => ({ root, entry }))))
      .sort((a, b) => b.root.length - a.root.length)
  }

  /** The route of this method (`WS` for sockets); HEAD finds GET's. A slash at the end does not matter. */
  find(method: string, path: string): Target | undefined {
    const key = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
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
  const seen = new Map<string, { plugin: string; path: string }>()
  for (const entry of entries) {
    if (entry.state !== 'ready') continue
    for (const group of [...entry.compiled.groups, ...entry.compiled.sockets]) {
      for (const { method, path, takesJson, socket } of group.routes) {
        const shape = `${method} ${toShape(path)}`
        const other = seen.get(shape)
        if (other) {
          problems.push({
            where: group.plugin,
            key: `${method} ${path}`,
            what: `the route has the same shape as one of ${other.plugin === group.plugin ? 'another group of this plugin' : `the plugin "${other.plugin}"`}`,
            found: `${other.plugin}: ${method} ${other.path}`,
            expected: 'every method and path in one group only',
          })
          continue
        }
        seen.set(shape, { plugin: group.plugin, path })
        const tree = trees.get(method) ?? new Tree()
        trees.set(method, tree.add(path, { group, template: path, takesJson, socket }))
      }
    }
  }
  return { table: new RouteTable(entries, trees), problems }
}

interface Node {
  literal: Map<string, Node>
  parameter?: Node
  target?: Target
  wildcard?: Target
}

const newNode = (): Node => ({ literal: new Map() })

/** The routes of one method: a map for fixed paths, else by segment: literal before parameter before wildcard. */
class Tree {
  readonly #fixed = new Map<string, Target>()
  readonly #root = newNode()

  add(path: string, target: Target): this {
    const key = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
    if (!/[:*]/.test(key)) {
      this.#fixed.set(key, target)
      return this
    }
    let node = this.#root
    for (const segment of key.slice(1).split('/')) {
      if (segment === '*') {
        node.wildcard = target
        return this
      }
      if (segment.startsWith(':')) node = node.parameter ??= newNode()
      else {
        const next = node.literal.get(segment) ?? newNode()
        node.literal.set(segment, next)
        node = next
      }
    }
    node.target = target
    return this
  }

  find(path: string): Target | undefined {
    return this.#fixed.get(path) ?? walk(this.#root, path, 1)
  }
}

function walk(node: Node, path: string, from: number): Target | undefined {
  if (from > path.length) return node.target
  const slash = path.indexOf('/', from)
  const end = slash === -1 ? path.length : slash
  const segment = path.slice(from, end)
  const literal = node.literal.get(segment)
  const found = (literal && walk(literal, path, end + 1)) ?? (node.parameter && segment !== '' ? walk(node.parameter, path, end + 1) : undefined)
  return found ?? node.wildcard
}
