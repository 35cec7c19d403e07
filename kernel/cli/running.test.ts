import { describe, expect, test } from 'bun:test'
import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLocalAccess } from './local-access.ts'
import { type RunFile, writeRunFiles } from './running.ts'

const run: RunFile = { url: 'http://127.0.0.1:1', pid: process.pid, startedAt: '2026-01-01T00:00:00.000Z', socket: null, certificate: null }
const names = ['cli.token', 'run.json'] as const
const draft = (name: string) => `.${name}.${process.pid}`

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'portico-local-'))
  try {
    await use(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

describe('the files for commands beside the gateway', () => {
  test('are for their owner alone, and go with it', () =>
    inFolder(async (folder) => {
      const { token } = createLocalAccess({})
      const remove = writeRunFiles(folder, run, token)
      for (const name of names) expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600)
      expect((await readFile(join(folder, 'cli.token'), 'utf8')).trim()).toBe(token)
      await remove()
      expect(await readdir(folder)).toEqual([])
    }))

  test('are never written through a link, nor into a file, that somebody put in their way', () =>
    inFolder(async (folder) => {
      const victim = join(folder, 'victim')
      await writeFile(victim, 'untouched', { mode: 0o644 })
      await symlink(victim, join(folder, draft('run.json')))
      await symlink(victim, join(folder, 'run.json'))
      await writeFile(join(folder, draft('cli.token')), 'readable by all', { mode: 0o666 })
      writeRunFiles(folder, run, createLocalAccess({}).token)
      expect(await readFile(victim, 'utf8')).toBe('untouched')
      for (const name of names) {
        const { mode } = await stat(join(folder, name))
        expect(mode & 0o777).toBe(0o600)
      }
    }))
})
