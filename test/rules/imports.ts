/** Who may import whom: the one table, and the judgement of one file by it. */
import { type Import, importsOf, isTest, packageOf, resolveFrom, type SourceFile } from './source.ts'

/** Each kernel room with the siblings it may import. No room is above itself: the table has no cycle. */
export const rooms: Readonly<Record<string, readonly string[]>> = {
  contract: [],
  config: ['contract'],
  runtime: ['contract'],
  bus: ['contract'],
  http: ['contract', 'config', 'runtime'],
  boot: ['contract', 'config', 'runtime', 'bus', 'http'],
  cli: ['contract', 'config', 'http', 'boot'],
  testkit: ['contract', 'boot', 'cli'],
}

/** The one file that names built-in plugins, each by a dynamic import. */
const builtins = 'plugins/builtins.ts'
/** What a command is, is the command line's, and shown by the public entry. */
const commands = 'kernel/cli/command.ts'
/** What a plugin may import of `portico`. */
const publicEntry = /^portico(\/channels|\/plugins\/[a-z0-9-]+(\/testing)?)?$/
const builtByKernel = new Set(['elysia', '@sinclair/typebox'])
const fixtures = 'test/fixtures/'

/** What the rules know of the packages. */
export interface Packages {
  readonly runtime: ReadonlySet<string>
  readonly dev: ReadonlySet<string>
}

/** Every import of the file that is not allowed, one line each. */
export function importViolations(file: SourceFile, packages: Packages): string[] {
  return importsOf(file.text).flatMap((entry) => {
    const why = judge(file.path, entry, packages)
    return why === undefined ? [] : [`${file.path}:${entry.line} imports ${entry.specifier}: ${why}`]
  })
}

function judge(path: string, entry: Import, packages: Packages): string | undefined {
  const { specifier } = entry
  const test = isTest(path)
  if (specifier.startsWith('node:')) return undefined
  if (specifier === 'bun' || specifier.startsWith('bun:'))
    return test || path.startsWith('kernel/runtime/bun') ? undefined : 'only kernel/runtime/bun.ts and tests name Bun'
  if (/^(npm|jsr|https?):/.test(specifier)) return 'packages come from package.json'
  if (specifier.startsWith('.')) return judgeRelative(path, resolveFrom(path, specifier), entry)
  if (specifier === 'portico' || specifier.startsWith('portico/')) return judgePublic(path, specifier, test)
  const name = packageOf(specifier)
  if (!packages.runtime.has(name) && !(test && packages.dev.has(name))) return `${name} is no ${test ? '' : 'runtime '}dependency in package.json`
  if (isPlugin(path) && !test && builtByKernel.has(name)) return 'plugins write routes and schemas with what `portico` gives'
  return undefined
}

function judgeRelative(path: string, target: string, entry: Import): string | undefined {
  if (target.startsWith('..')) return 'leaves the checkout'
  if (!/\.(ts|mjs|json)$/.test(target)) return 'name the file with its ending'
  if (path.startsWith('test/')) return undefined
  if (target.startsWith('test/')) return isTest(path) && target.startsWith(fixtures) ? undefined : 'only tests use test/, and of it test/fixtures'
  if (path === builtins) return isPlugin(target) && entry.kind === 'dynamic' ? undefined : 'the list of plugins loads them, and nothing else'
  if (isPlugin(path)) return home(target) === home(path) ? undefined : "a plugin imports its own folder and other plugins' contracts by portico/plugins/<id>"
  const [from, to] = [room(path), room(target)]
  if (from === undefined) return `${path} lies in no room`
  if (target === builtins) return from === 'boot' || from === 'cli' || from === 'config' ? undefined : 'boot, cli and config alone ask which plugins there are'
  if (isPlugin(target)) return 'the kernel knows no plugin'
  if (to === undefined) return target === 'package.json' ? undefined : `${target} lies in no room`
  if (from === 'contract' && target === commands) return undefined
  if (from === to || rooms[from]?.includes(to)) return undefined
  if (isTest(path) && to === 'testkit') return undefined
  return `kernel/${from} may import ${rooms[from]?.map((name) => `kernel/${name}`).join(', ') || 'no room'}`
}

function judgePublic(path: string, specifier: string, test: boolean): string | undefined {
  if (path.startsWith('kernel/') && !test) return 'the kernel imports its rooms by path'
  if (specifier === 'portico/testkit' || specifier.endsWith('/testing'))
    return test || specifier.startsWith(`portico/${home(path)}/`) ? undefined : 'only tests use it'
  return publicEntry.test(specifier) ? undefined : 'no public entry'
}

function isPlugin(path: string): boolean {
  return /^(plugins|channels)\//.test(path)
}

/** `plugins/openai`. */
function home(path: string): string {
  return path.split('/').slice(0, 2).join('/')
}

/** `bus` of `kernel/bus/catalogue.ts`. */
function room(path: string): string | undefined {
  const name = /^kernel\/([a-z]+)\//.exec(path)?.[1]
  return name !== undefined && name in rooms ? name : undefined
}

/** Rings of files that import each other's values, each once, as `a.ts → b.ts → a.ts`. */
export function importCycles(files: readonly SourceFile[]): string[] {
  const edges = new Map(
    files.map((file) => [
      file.path,
      importsOf(file.text)
        .filter((entry) => entry.specifier.startsWith('.') && !entry.types && entry.kind === 'static')
        .map((entry) => resolveFrom(file.path, entry.specifier)),
    ]),
  )
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) cycles.push([...trail.slice(at), path].join(' → '))
    if (at >= 0 || done.has(path)) return
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of edges.keys()) visit(path, [])
  return cycles
}

const publicEntries = new Set(['kernel/contract/index.ts', 'kernel/testkit/index.ts'])

/** Files that only hand on other files' exports, beside the public entries (a plugin's contract may hand on its own parts). */
export function barrels(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => !publicEntries.has(file.path) && !/^(plugins|channels)\/[^/]+\/contract\.ts$/.test(file.path) && importsOf(file.text).length > 0)
    .filter(
      (file) =>
        file.text
          .replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
          .replaceAll(/export\s+(type\s+)?(\*|\{[^}]*\})\s*(as\s+\w+\s*)?from\s*['"][^'"]+['"];?/g, '')
          .trim() === '',
    )
    .map((file) => `${file.path} only hands on other files' exports`)
}
