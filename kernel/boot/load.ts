/** Loads plugin modules: built-in ones by id, others by path or package name from the config file's folder. */
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { PluginLoader } from '../../plugins/builtins.ts'
import { isPlugin, type Plugin } from '../contract/plugin.ts'
import type { Problem } from '../contract/problem.ts'

/** A plugin and where it came from: `builtin`, or the specifier. */
export interface LoadedPlugin {
  readonly plugin: Plugin
  readonly from: string
  /** Its module's path; absent when it was given as a value. */
  readonly file?: string
}

/** What `loadPlugins` is given. */
export interface LoadOptions {
  readonly builtins: Readonly<Record<string, PluginLoader>>
  /** Specifiers of third-party plugins. */
  readonly specifiers: readonly string[]
  /** The folder they are resolved from. */
  readonly baseDir: string
  /** Told of each as soon as it is there. */
  onLoaded(loaded: LoadedPlugin): void
}

/** Loads all of them; those that cannot be loaded are problems, never a throw. */
export async function loadPlugins({ builtins, specifiers, baseDir, onLoaded }: LoadOptions): Promise<{ plugins: LoadedPlugin[]; problems: Problem[] }> {
  const problems: Problem[] = []
  const attempt = async (where: string, from: string, load: () => Promise<FoundModule>): Promise<LoadedPlugin[]> => {
    try {
      const { default: plugin, file } = await load()
      if (isPlugin(plugin)) {
        const loaded = { plugin, from, file }
        onLoaded(loaded)
        return [loaded]
      }
      problems.push({ where, what: 'its module has no plugin as default export', expected: 'export default definePlugin({ … })', found: typeof plugin })
    } catch (error) {
      problems.push({ where, what: `could not be loaded: ${describe(error)}`, expected: hint(error) })
    }
    return []
  }
  const plugins = await Promise.all([
    ...Object.entries(builtins).map(([id, load]) => attempt(id, 'builtin', async () => ({ ...(await load()), file: builtinFile(id) }))),
    ...specifiers.map((name) => attempt(name, name, () => importPlugin(name, baseDir))),
  ])
  return { plugins: plugins.flat(), problems }
}

// Compiled, everything ends in `.js`.
const builtinFile = (id: string) => fileURLToPath(new URL(`../../plugins/${id}/index${import.meta.url.slice(-3)}`, import.meta.url).href)

/** A module, and its path. */
interface FoundModule {
  readonly default: unknown
  readonly file: string
}

/** How often modules were asked for anew. */
const renewals = new Map<string, number>()

/** From now on this plugin's module is another one than before: what its file holds by then. What it imports stays. */
export function renewPlugin(specifier: string, baseDir: string): void {
  const key = `${baseDir} ${specifier}`
  renewals.set(key, (renewals.get(key) ?? 0) + 1)
}

/** Resolves a specifier from a folder and imports it. */
export async function importPlugin(specifier: string, baseDir: string): Promise<FoundModule> {
  const { resolveModulePath } = await import('exsolve')
  const file = resolveModulePath(specifier, {
    from: pathToFileURL(`${baseDir}/`).href,
    extensions: ['.ts', '.js', '.mjs'],
    suffixes: ['', '/index'],
    cache: false,
  })
  const renewal = renewals.get(`${baseDir} ${specifier}`)
  // Bun looks at the query of a path, not of a URL.
  const module = (await import(renewal === undefined ? pathToFileURL(file).href : `${file}?renewal=${renewal}`)) as { default: unknown }
  return { default: module.default, file }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? error.name) : String(error)
}

function hint(error: unknown): string | undefined {
  if (!/["'`]portico["'`/]/.test(describe(error))) return undefined
  const here = fileURLToPath(new URL('../..', import.meta.url).href).replace(/\/$/, '')
  return `"portico" to be found from the plugin's folder; there, run: mkdir -p node_modules && ln -s ${here} node_modules/portico`
}
