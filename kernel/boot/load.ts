/** Loads plugin modules: built-in ones by id, others by path or package name from the config file's folder. */
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isPlugin, type Plugin } from '../contract/plugin.ts'
import type { Problem } from '../contract/problem.ts'
import type { PluginLoader } from './builtins.ts'

/** A plugin and where it came from: `builtin`, or the specifier. */
export interface LoadedPlugin {
  readonly plugin: Plugin
  readonly from: string
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
  const attempt = async (where: string, from: string, load: PluginLoader): Promise<LoadedPlugin[]> => {
    try {
      const plugin = (await load()).default
      if (isPlugin(plugin)) {
        onLoaded({ plugin, from })
        return [{ plugin, from }]
      }
      problems.push({ where, what: 'its module has no plugin as default export', expected: 'export default definePlugin({ … })', found: typeof plugin })
    } catch (error) {
      problems.push({ where, what: `could not be loaded: ${describe(error)}`, expected: hint(error) })
    }
    return []
  }
  const plugins = await Promise.all([
    ...Object.entries(builtins).map(([id, load]) => attempt(id, 'builtin', load)),
    ...specifiers.map((specifier) => attempt(specifier, specifier, () => importPlugin(specifier, baseDir))),
  ])
  return { plugins: plugins.flat(), problems }
}

/** Resolves a specifier from a folder and imports it. */
export async function importPlugin(specifier: string, baseDir: string): Promise<{ default: unknown }> {
  const { resolveModulePath } = await import('exsolve')
  const path = resolveModulePath(specifier, { from: pathToFileURL(`${baseDir}/`).href, extensions: ['.ts', '.js', '.mjs'], suffixes: ['', '/index'] })
  return (await import(pathToFileURL(path).href)) as { default: unknown }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? error.name) : String(error)
}

function hint(error: unknown): string | undefined {
  if (!/["'`]portico["'`/]/.test(describe(error))) return undefined
  const here = fileURLToPath(new URL('../..', import.meta.url).href).replace(/\/$/, '')
  return `"portico" to be found from the plugin's folder; there, run: mkdir -p node_modules && ln -s ${here} node_modules/portico`
}
