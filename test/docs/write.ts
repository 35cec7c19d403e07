/** `bun run docs`: writes the pages that are made from the source. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makePages } from './pages.ts'

for (const [path, text] of Object.entries(await makePages())) {
  writeFileSync(join(import.meta.dirname, '../..', path), text)
  console.log(path)
}
process.exit(0)
