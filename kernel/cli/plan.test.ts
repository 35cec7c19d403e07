import { expect, test } from 'bun:test'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { planCommand } from './plan.ts'

test('a literal secret is fine in a file of mode 0600, and a warning with the command in any other', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'portico-plan-'))
  const config = join(folder, 'portico.toml')
  const hidden = 'hidden-in-the-file'
  await writeFile(config, `[database]\nurl = "postgres://u:${hidden}@h/d"\n[[auth-token.tokens]]\nid = "ci"\nsecret = "${hidden}-of-sixteen"\n`, {
    mode: 0o600,
  })
  const plan = () => planCommand({ flags: { config }, env: {}, cwd: folder })
  const { problems, warnings, values } = await plan()
  expect([problems, warnings]).toEqual([[], []])
  expect(JSON.stringify(values)).not.toContain(hidden)
  await chmod(config, 0o640)
  const open = (await plan()).warnings
  expect(open).toHaveLength(2)
  expect(open.join()).toContain(`chmod 600 ${config}`)
  expect(open.join()).not.toContain(hidden)
  await rm(folder, { recursive: true, force: true })
})
