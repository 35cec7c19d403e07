import { describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pgTable, text } from 'drizzle-orm/pg-core'
import { defineEvent, definePlugin, defineScope, defineService, defineSlot, open, type Plugin, type PluginDescriptor, rpc, t } from 'portico'
import type { PlanError, Problem } from '../contract/problem.ts'
import { planGateway } from './planning.ts'
import { startGateway } from './start.ts'

const setup = () => {}
const base = { version: '1.0.0', api: 1, summary: 'A test plugin', setup }
const plugin = (descriptor: { id: string } & Record<string, unknown>): Plugin => definePlugin({ ...base, ...descriptor } as PluginDescriptor)

/** These configs hold no secret. */
const redactor = { add() {}, apply: (text: string) => text }

async function planProblems(plugins: readonly Plugin[], config = ''): Promise<readonly Problem[]> {
  const { plan } = await planGateway({ env: {}, cwd: '/', configText: config, plugins })
  return plan.problems
}

async function startProblems(plugins: readonly Plugin[], config = ''): Promise<readonly Problem[]> {
  const dataDir = await mkdtemp(join(tmpdir(), 'portico-plan-'))
  try {
    const gateway = await startGateway({ env: {}, cwd: dataDir, configText: config, plugins, listen: false, flags: { dataDir }, redactor })
    await gateway.stop()
    return []
  } catch (error) {
    if ((error as PlanError).problems) return (error as PlanError).problems
    throw error
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
}

describe('the plan names every problem of the descriptors, all at once', () => {
  const seen = defineEvent('twin:seen', t.Object({}), { scope: rpc, durable: true })
  const reading = defineScope('reading', 'Read')
  const ping = defineService<{ ping(): void }>('ping')
  const pong = defineService<{ pong(): void }>('pong')
  const panels = defineSlot<string>('panels')

  test('two plugins with one id', async () => {
    expect(await planProblems([plugin({ id: 'twin' }), plugin({ id: 'twin' })])).toContainEqual(
      expect.objectContaining({ where: 'twin', what: 'two plugins have this id' }),
    )
  })

  test('two owners of a root, an event, a scope, a service, a slot: each names the second plugin, the key and the first owner', async () => {
    const owned = { paths: ['/a'], events: [seen], scopes: [reading], provides: { ping }, slots: [panels] }
    const problems = await planProblems([plugin({ id: 'first', ...owned }), plugin({ id: 'second', ...owned })])
    for (const key of ['/a', 'twin:seen', 'reading', 'ping', 'panels']) {
      expect(problems).toContainEqual(expect.objectContaining({ where: 'second', key, found: 'first', what: expect.stringContaining('has an owner already') }))
    }
  })

  test('nested roots are allowed', async () => {
    expect(await planProblems([plugin({ id: 'outer', paths: ['/a'] }), plugin({ id: 'inner', paths: ['/a/b'] })])).toEqual([])
  })

  test('a missing service, with the nearest that exists', async () => {
    const problems = await planProblems([plugin({ id: 'asker', requires: { x: defineService('pings') } }), plugin({ id: 'giver', provides: { ping } })])
    expect(problems).toEqual([expect.objectContaining({ where: 'asker', key: 'pings', nearest: 'ping' })])
  })

  test('a circle of requirements, by its way', async () => {
    const problems = await planProblems([
      plugin({ id: 'a', requires: { pong }, provides: { ping } }),
      plugin({ id: 'b', requires: { ping }, provides: { pong } }),
    ])
    expect(problems).toEqual([expect.objectContaining({ what: 'plugins require each other in a circle', found: 'a → b → a' })])
  })

  test('an unknown api version, an id that is not kebab-case, a misspelt key, a slot nobody owns, a table without the prefix', async () => {
    const problems = await planProblems([
      plugin({ id: 'future', api: 2 }),
      plugin({ id: 'Bad_Id' }),
      plugin({ id: 'slip', pathes: ['/x'] }),
      plugin({ id: 'adder', adds: [defineSlot('nowhere')] }),
      plugin({ id: 'tabler', tables: { rows: pgTable('rows', { id: text() }) } }),
    ])
    expect(problems).toContainEqual(expect.objectContaining({ where: 'future', key: 'api', found: '2', expected: '1' }))
    expect(problems).toContainEqual(expect.objectContaining({ where: 'Bad_Id', key: 'id' }))
    expect(problems).toContainEqual(expect.objectContaining({ where: 'slip', key: 'pathes', nearest: 'paths' }))
    expect(problems).toContainEqual(expect.objectContaining({ where: 'adder', key: 'nowhere' }))
    expect(problems).toContainEqual(expect.objectContaining({ where: 'tabler', key: 'rows', expected: 'tabler_…' }))
  })

  test('bad config, with the nearest key, found and expected', async () => {
    const configured = plugin({ id: 'pager', config: t.Object({ retries: t.Integer({ default: 3 }) }) })
    const problems = await planProblems([configured], '[pager]\nretires = 3\n[pagr]\n')
    expect(problems).toContainEqual(expect.objectContaining({ key: expect.stringContaining('retires'), nearest: expect.stringContaining('retries') }))
    expect(problems).toContainEqual(expect.objectContaining({ key: expect.stringContaining('pagr'), nearest: 'pager' }))
    expect(await planProblems([configured], '[pager]\nretries = "three"\n')).toContainEqual(
      expect.objectContaining({ key: expect.stringContaining('retries'), expected: expect.stringContaining('integer') }),
    )
  })

  test('a plugin that its section switches off is no part of it, wherever it comes from', async () => {
    const { plan } = await planGateway({ env: {}, cwd: '/', configText: '[off]\nenabled = false', plugins: [plugin({ id: 'off' }), plugin({ id: 'on' })] })
    expect(plan.problems).toEqual([])
    expect(plan.order.map((planned) => planned.plugin.id)).toEqual([
      'data-folder',
      'pglite',
      'database',
      'event-log',
      'sockets',
      'tls',
      'proxies',
      'door',
      'auth',
      'on',
    ])
  })

  test('a module that is no plugin, and one that cannot be found', async () => {
    const { plan } = await planGateway({ env: {}, cwd: import.meta.dir, configText: 'plugins = ["./clock.ts", "./nowhere.ts"]', plugins: [] })
    expect(plan.problems).toContainEqual(expect.objectContaining({ where: './clock.ts', what: expect.stringContaining('no plugin') }))
    expect(plan.problems).toContainEqual(expect.objectContaining({ where: './nowhere.ts', what: expect.stringContaining('could not be loaded') }))
  })
})

describe('what only setup shows is named as precisely, all at once', () => {
  const other = defineEvent('other:done', t.Object({}), { scope: rpc, durable: false })
  const returning = (id: string, result: unknown, more = {}) => plugin({ id, ...more, setup: () => result as never })

  test('one shape in two groups, a route outside its roots, a misspelt key of the result, a group without access, an undeclared event', async () => {
    const problems = await startProblems([
      returning('one', { routes: [open((app) => app.get('/a/x/:id', () => 'x'))] }, { paths: ['/a'] }),
      returning('two', { routes: [open((app) => app.get('/a/x/:name/', () => 'y'))] }, { paths: ['/a/x'] }),
      returning('outside', { routes: [open((app) => app.get('/elsewhere', () => 'z'))] }, { paths: ['/b'] }),
      returning('slip', { route: [] }),
      returning('bare', { routes: [{ get() {} }] }, { paths: ['/c'] }),
      plugin({ id: 'talker', setup: (ctx: { publish(ref: unknown, data: unknown): void }) => ctx.publish(other, {}) } as never),
    ])
    const named = (where: string, key: string) =>
      problems.some((problem) => problem.where === where && `${problem.key} ${problem.what} ${problem.found}`.includes(key))
    expect(problems.some((problem) => /one.*two|two.*one/.test(JSON.stringify(problem)))).toBe(true)
    expect(named('outside', '/elsewhere')).toBe(true)
    expect(problems).toContainEqual(expect.objectContaining({ where: 'slip', key: 'route', nearest: 'routes' }))
    expect(problems.some(({ where }) => where === 'bare')).toBe(true)
    expect(problems).toContainEqual(expect.objectContaining({ where: 'talker', key: 'other:done', what: expect.stringContaining('not declared in events') }))
  })

  test('the same shape in two plugins names both', async () => {
    const problems = await startProblems([
      returning('one', { routes: [open((app) => app.get('/a/x/:id', () => 'x'))] }, { paths: ['/a'] }),
      returning('two', { routes: [open((app) => app.get('/a/x/:name/', () => 'y'))] }, { paths: ['/a/x'] }),
    ])
    expect(problems).toHaveLength(1)
    expect(JSON.stringify(problems[0])).toMatch(/one.*two|two.*one/)
  })

  test('two parameter names at one place', async () => {
    const problems = await startProblems([
      returning('names', { routes: [open((app) => app.get('/n/:id', () => 'x').get('/n/:name/more', () => 'y'))] }, { paths: ['/n'] }),
    ])
    expect(problems).toEqual([expect.objectContaining({ where: 'names' })])
  })

  test('a declared service that setup does not return', async () => {
    const problems = await startProblems([plugin({ id: 'giver', provides: { ping: defineService('ping') } })])
    expect(problems).toEqual([expect.objectContaining({ where: 'giver', key: 'services.ping' })])
  })
})
