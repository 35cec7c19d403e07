import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { makePages } from './pages.ts'

const read = (path: string) => {
  try {
    return readFileSync(join(import.meta.dir, '../..', path), 'utf8')
  } catch {
    return ''
  }
}

test('the pages that are made from the source are up to date', async () => {
  for (const [path, text] of Object.entries(await makePages()))
    expect({ path, text: read(path), next: 'bun run docs' }).toEqual({ path, text, next: 'bun run docs' })
})
