import { describe, expect, test } from 'bun:test'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { definePlugin, open, type Plugin, t } from 'portico'
import { pluginContract } from 'portico/testkit'

const base = { id: 'subject', version: '1.0.0', api: 1, summary: 'Under test' } as const
const page = (path: string) => [open((app) => app.get(path, () => 'x'))]

/** What is wrong with it, by the rule that says so; the last rule stops the gateway, so it is always asked. */
async function faults(plugin: Plugin, rules = [0, 1, 2]): Promise<string[]> {
  const found: string[] = []
  for (const { name, check } of pluginContract(plugin).filter((_, rule) => rule === 3 || rules.includes(rule)))
    await check().catch((error: Error) => found.push(`${name}: ${error.message}`))
  return found
}

describe('the contract suite for plugins', () => {
  test('finds nothing wrong with a good plugin', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'portico-contract-'))
    writeFileSync(join(folder, '0001_notes.sql'), 'create table subject_notes (id text primary key);')
    const good = definePlugin({
      ...base,
      paths: ['/subject'],
      config: t.Object({ word: t.String({ default: 'x' }) }),
      migrations: pathToFileURL(`${folder}/`),
      setup(ctx) {
        const timer = setInterval(() => {}, 1_000)
        ctx.defer(() => clearInterval(timer))
        return { routes: page('/subject/here') }
      },
    })
    expect(await faults(good)).toEqual([])
  })

  test('names a set-up that fails', async () => {
    const [first] = await faults(definePlugin({ ...base, setup: () => Promise.reject(new Error('no luck')) }))
    expect(first).toMatch(/^it starts, and is ready: \[plugin subject\] is failed: .*no luck/)
  })

  test('names a root under which nothing lies, and a table of a foreign name', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'portico-contract-'))
    writeFileSync(join(folder, '0001_notes.sql'), 'create table notes (id text primary key);')
    expect((await faults(definePlugin({ ...base, paths: ['/nothing'], setup: () => {} })))[0]).toContain('nothing lies under /nothing: leave it out of paths.')
    const foreign = definePlugin({ ...base, migrations: pathToFileURL(`${folder}/`), setup: () => {} })
    expect((await faults(foreign))[0]).toContain('makes the table notes'.replace('makes', 'make'))
  })

  test('names what is left behind: an interval, a listener of the process', async () => {
    const timers: ReturnType<typeof setInterval>[] = []
    const leaky = definePlugin({ ...base, setup: () => void timers.push(setInterval(() => {}, 60_000)) })
    expect(await faults(leaky, [])).toEqual([expect.stringContaining('1 of its intervals go on after the stop')])
    for (const timer of timers) clearInterval(timer)
    const listener = () => {}
    const listening = definePlugin({ ...base, setup: () => void process.on('SIGWINCH', listener) })
    expect(await faults(listening, [])).toEqual([expect.stringContaining('it still listens to "SIGWINCH" of the process')])
    process.removeAllListeners('SIGWINCH')
  })

  test('names one that cannot be set up twice', async () => {
    let times = 0
    const once = definePlugin({ ...base, setup: () => (++times === 2 ? Promise.reject(new Error('only once')) : undefined) })
    expect((await faults(once)).join()).toContain('only once')
  })
})
