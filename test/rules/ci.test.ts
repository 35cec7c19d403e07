import { afterAll, describe, expect, test } from 'bun:test'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './source.ts'

const folder = mkdtempSync(join(tmpdir(), 'portico-ci-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs .ci/run with an npx that says `output` and ends with `code`. */
async function ci(output: string, code: number): Promise<{ code: number; last: string }> {
  const npx = join(folder, 'npx')
  writeFileSync(npx, `#!/bin/sh\n[ "$1 $3 $4" = "-y run verify" ] || exit 99\ncat <<'END'\n${output}\nEND\nexit ${code}\n`)
  chmodSync(npx, 0o755)
  const child = Bun.spawn([`${root}/.ci/run`], {
    cwd: folder,
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}` },
    stdout: 'pipe',
    stderr: 'ignore',
  })
  const out = await new Response(child.stdout).text()
  return { code: await child.exited, last: out.trimEnd().split('\n').at(-1) ?? '' }
}

describe('.ci/run', () => {
  test.each([
    ['all passed', ' 12 pass\n 0 fail\nRan 12 tests across 3 files. [1.0s]', 0, 0, '12 passed, 0 failed'],
    ['some failed', ' 10 pass\n 2 fail\nRan 12 tests across 3 files. [1.0s]', 1, 1, '10 passed, 2 failed'],
    ['some were skipped', ' 10 pass\n 2 skip\n 0 fail\nRan 12 tests across 3 files. [1.0s]', 0, 0, '10 passed, 0 failed, 2 skipped'],
    ['an error between tests', ' 10 pass\n 0 fail\n 1 error\nRan 10 tests across 3 files. [1.0s]', 1, 1, '10 passed, 1 failed'],
    ['the run ended early, with 0', ' (pass) a\n', 0, 1, '0 passed, 1 failed'],
    ['the linter failed', 'Found 3 errors.', 1, 1, '0 passed, 1 failed'],
    ['no test was found', ' 0 pass\n 0 fail\nRan 0 tests across 0 files. [1.0s]', 0, 1, '0 passed, 1 failed'],
    ['passed, but the command failed', ' 12 pass\n 0 fail\nRan 12 tests across 3 files. [1.0s]', 7, 1, '12 passed, 1 failed'],
  ])('%s', async (_, output, exit, code, last) => expect(await ci(output, exit)).toEqual({ code, last }))
})
