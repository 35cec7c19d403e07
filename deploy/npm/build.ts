/** `bun run build [FOLDER]`: makes the package that npm installs, JavaScript and its types, in `dist/`. What is in it and why: README.md beside this file. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import manifest from '../../package.json' with { type: 'json' }

const root = fileURLToPath(new URL('../..', import.meta.url).href)
const here = join(root, 'deploy/npm')
const dist = resolve(process.argv[2] ?? join(root, 'dist'))
/** Where declarations find TypeBox's, see `toPublished`. */
const typebox = join(dist, 'kernel/contract/typebox')
/** Whose code is published. */
const rooms = ['kernel', 'plugins', 'channels']
/** Folders that only tests read. */
const forTests = new Set(['fixtures', 'payloads', 'node_modules'])

await rm(dist, { recursive: true, force: true })
await compile()
for (const room of rooms) await copyRoom(room)
await copyDocs()
await unlink()
await mkdir(join(dist, 'bin'), { recursive: true })
await copyFile(join(here, 'portico.js'), join(dist, 'bin/portico.js'))
await chmod(join(dist, 'bin/portico.js'), 0o755)
await writeFile(join(dist, 'package.json'), `${JSON.stringify(published(), null, 2)}\n`)
console.log(`The package is in ${dist}. Pack it: npm pack ${dist}`)

async function compile(): Promise<void> {
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  try {
    await promisify(execFile)(process.execPath, [tsc, '-p', join(here, 'tsconfig.json'), '--outDir', dist])
  } catch (error) {
    throw new Error(`tsc refused the sources:\n${(error as { stdout?: string }).stdout ?? ''}`, { cause: error })
  }
  for (const file of await filesOf(dist)) if (file.endsWith('.d.ts')) await writeFile(file, toPublished(await readFile(file, 'utf8'), file))
  await mkdir(typebox, { recursive: true })
  await writeFile(join(typebox, 'index.d.ts'), "export * from '@sinclair/typebox'\n")
  await writeFile(join(typebox, 'package.json'), '{}\n')
}

/**
 * Declarations as every checker reads them. tsc rewrites `./x.ts` in JavaScript only. And TypeBox has its types twice, for `import` and for `require`, with symbols that differ:
 * Elysia's declarations, in a package that says no `type`, see one or the other by the checker's settings. Ours look through a folder of that kind, and so always see the same ones.
 */
function toPublished(text: string, file: string): string {
  const path = relative(dirname(file), join(typebox, 'index.js'))
  return text
    .replace(/((?:\bfrom |\bimport\(|\bimport )(['"])\.\.?\/[^'"]+)\.ts\2/g, '$1.js$2')
    .replace(/(\bfrom |\bimport\()(['"])@sinclair\/typebox\2/g, `$1$2${path.startsWith('.') ? path : `./${path}`}$2`)
}

/** What the code reads while it runs: migrations, pages, workers in JavaScript; and what is written about it. */
async function copyRoom(room: string): Promise<void> {
  for (const file of await filesOf(join(root, room))) if (extname(file) !== '.ts') await copy(file)
}

/** The documents and what they link to; of `deploy/npm`, which makes this package, only the page. */
async function copyDocs(): Promise<void> {
  for (const file of await filesOf(join(root, 'deploy'))) if (extname(file) === '.md' || dirname(file) !== here) await copy(file)
  for (const file of await filesOf(join(root, 'docs'))) if (extname(file) === '.md') await copy(file)
  for (const name of ['README.md', 'LICENSE', 'CHANGELOG.md', 'CONTRIBUTING.md']) await copy(join(root, name))
}

/** A link to what only the repository has becomes its text. */
async function unlink(): Promise<void> {
  for (const file of await filesOf(dist)) {
    if (extname(file) !== '.md') continue
    const isThere = (target: string) => /^(?:[a-z]+:|#)/.test(target) || existsSync(resolve(dirname(file), target.replace(/#.*/, '')))
    const text = await readFile(file, 'utf8')
    await writeFile(
      file,
      text.replace(/\[([^\]]*)\]\(([^)\s]+)\)/g, (link, label: string, target: string) => (isThere(target) ? link : label)),
    )
  }
}

async function copy(file: string): Promise<void> {
  const target = join(dist, file.slice(root.length))
  await mkdir(dirname(target), { recursive: true })
  await copyFile(file, target)
}

/** All files under a folder, without those that only tests read; none when there is no such folder. */
async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const lists = entries.map((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return forTests.has(basename(path)) ? [] : filesOf(path)
    return entry.isFile() && !/\.test\.\w+$/.test(entry.name) ? [path] : []
  })
  return (await Promise.all(lists)).flat()
}

/** The published package.json: the checkout's, with compiled entries, and Bun as a dependency like any other. */
function published(): Record<string, unknown> {
  const { name, version, description, license, type, dependencies, devDependencies, exports } = manifest
  const entry = (file: string) => (file.endsWith('.ts') ? { types: file.replace(/\.ts$/, '.d.ts'), default: file.replace(/\.ts$/, '.js') } : file)
  return {
    ...{ name, version, description, license, type },
    engines: { node: '>=20', bun: '>=1.4', deno: '>=2.9' },
    bin: { portico: 'bin/portico.js' },
    exports: Object.fromEntries(Object.entries(exports).map(([path, file]) => [path, entry(file)])),
    files: ['bin', ...rooms, 'docs', 'deploy', 'CHANGELOG.md', 'CONTRIBUTING.md'],
    dependencies: { ...dependencies, bun: devDependencies.bun },
  }
}
