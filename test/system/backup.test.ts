/** `portico backup` and `portico restore` as an operator uses them, from one embedded database to another, and from one runtime to the other. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { bearer, createKey, outcome } from '../fixtures/send.ts'
import { until } from '../fixtures/until.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-backup-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

describe.each(runtimes)('on %s', (runtime) => {
  const other = runtime === 'bun' ? 'deno' : 'bun'
  const portico = (...args: string[]) => runPortico(args, { runtime, cwd: root })
  const folder = (name: string) => join(root, `${runtime}-${name}`)

  test('what a running gateway has is saved beside it, what a stopped one has without it, and the keys of the first are good at the second', async () => {
    const [beside, without] = [folder('beside.backup'), folder('without.backup')]
    const first = await spawnGateway({ runtime, dataDir: folder('first') })
    const one = await createKey(first, { name: 'one' })
    await until(async () => (await (await first.fetch('/api/activity?types=key:*')).json()).entries.length === 1)
    const saved = await portico('backup', beside, '--data-dir', first.dataDir, '--json')
    expect([saved.code, saved.stderr]).toEqual([0, ''])
    expect(JSON.parse(saved.stdout)).toEqual({ file: beside, bytes: statSync(beside).size })
    expect(statSync(beside).mode & 0o777).toBe(0o600)

    const again = await portico('backup', beside, '--data-dir', first.dataDir, '--json')
    expect([again.code, again.stdout, JSON.parse(again.stderr).error.code]).toEqual([1, '', 'conflict'])
    // Nothing is put back under a gateway that runs.
    const refused = await portico('restore', beside, '--yes', '--data-dir', first.dataDir)
    expect([refused.code, refused.stdout]).toEqual([1, ''])
    expect(refused.stderr).toContain(`A gateway runs on this data folder (pid ${first.pid})`)
    expect(refused.stderr).toContain('Stop it, then: portico restore FILE --yes')
    expect(await outcome(first, '/api/v1/auth/whoami', { headers: bearer(one.key) })).toBe('200')

    const two = await createKey(first, { name: 'two' })
    await first.stop()
    const alone = await portico('backup', without, '--data-dir', first.dataDir)
    expect(alone.code).toBe(0)
    expect(alone.stdout).toContain(`portico restore ${without}`)

    const asked = await portico('restore', without, '--data-dir', folder('second'))
    expect([asked.code, asked.stderr.includes('--yes')]).toEqual([1, true])
    const missing = await portico('restore', folder('nothing'), '--yes', '--data-dir', folder('second'), '--json')
    expect([missing.code, JSON.parse(missing.stderr).error.code]).toEqual([1, 'not_found'])
    const restored = await runPortico(['restore', without, '--yes', '--data-dir', folder('second'), '--json'], { runtime: other, cwd: root })
    expect([restored.code, restored.stderr]).toEqual([0, ''])
    expect(JSON.parse(restored.stdout)).toEqual({
      ...{ file: without, createdAt: expect.any(String), version: expect.any(String) },
      ...{ tables: expect.any(Number), rows: expect.any(Number) },
    })

    await using second = await spawnGateway({ runtime: other, dataDir: folder('second') })
    for (const { key } of [one, two]) expect(await outcome(second, '/api/v1/auth/whoami', { headers: bearer(key) })).toBe('200')
    const { entries } = await (await second.fetch('/api/activity?types=key:*')).json()
    expect(entries.map(({ data }: { data: { name: string } }) => data.name)).toEqual(['two', 'one'])
  }, 120_000)
})
