/** Whose code was it: finds a plugin in a stack, by the files its frames lie in. */
import { basename, dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What nobody can be blamed for by its stack. */
const unknownPlugin = 'unknown plugin'
/** Where the kernel's own files lie. */
const kernelRoot = fileURLToPath(new URL('../../kernel/', import.meta.url).href)
/** Frames of these are the runtime's own: they accuse nobody. */
const innards = /^(?:node|ext|bun|native|deno|internal|\[native code\])/

/** A plugin and the file it was loaded from. */
export interface PluginFile {
  readonly plugin: string
  readonly file: string
}

/** Judges files. */
export interface Blame {
  /** The first plugin in the list; `kernel` when all files are the kernel's; else `unknown plugin`. Innermost file first, as a path or a URL. */
  of(files: readonly string[]): string
  /** The same of an error's stack. What is thrown without one is nobody's. */
  ofError(error: unknown): string
}

/** Knows the plugins by where they lie: a package by its folder, `index.ts` by its folder, any other file by itself and by its folder when no other plugin lies there. */
export function createBlame(plugins: readonly PluginFile[]): Blame {
  const folders = plugins.map(({ file }) => dirname(file))
  const roots = plugins
    .flatMap(({ plugin, file }, at) => {
      const folder = folders[at] as string
      const isAlone = folders.every((other, index) => index === at || !`${other}${sep}`.startsWith(`${folder}${sep}`))
      // The built-in ones, when installed, share the kernel's own package.
      const inPackage = file.startsWith(join(kernelRoot, '../')) ? undefined : /^.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+/.exec(file)?.[0]
      const home = inPackage ?? (isAlone || /^index\./.test(basename(file)) ? folder : undefined)
      return [{ plugin, root: file }, ...(home === undefined ? [] : [{ plugin, root: `${home}${sep}` }])]
    })
    .sort((a, b) => b.root.length - a.root.length)
  const of = (files: readonly string[]): string => {
    const own = files.map(toPath).filter((file) => !innards.test(file))
    for (const file of own) {
      const found = roots.find(({ root }) => file === root || (root.endsWith(sep) && file.startsWith(root)))
      if (found) return found.plugin
    }
    return own.length > 0 && own.every((file) => file.startsWith(kernelRoot)) ? 'kernel' : unknownPlugin
  }
  return { of, ofError: (error) => of(error instanceof Error ? filesOf(error.stack ?? '') : []) }
}

/** The files of a stack's frames, innermost first, as both runtimes write them. */
function filesOf(stack: string): string[] {
  return stack.split('\n').flatMap((line) => {
    const place = /^\s+at (?:.*\()?(.+?):\d+(?::\d+)?\)?$/.exec(line)?.[1]
    return place === undefined ? [] : [place]
  })
}

/** A file's path without a query, from a URL or a path. */
function toPath(place: string): string {
  const bare = place.replace(/\?.*$/, '')
  return bare.startsWith('file:') ? fileURLToPath(bare) : bare
}
