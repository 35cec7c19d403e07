import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { definePlugin, kernel, type Plugin, t } from 'portico'
import { type DatabaseAccess, type DatabaseServer, databaseServer } from 'portico/plugins/database'
import { startTestGateway } from 'portico/testkit'
import { startPglite } from '../../test/fixtures/pglite.ts'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import type { PlanError, Problem } from '../contract/problem.ts'
import { planGateway } from './planning.ts'

const base = { version: '1.0.0', api: 1, summary: 'A test plugin' }
const planOf = async (configText: string, plugins?: readonly Plugin[]) => (await planGateway({ env: {}, cwd: '/', configText, plugins })).plan
const idsOf = async (configText: string, plugins?: readonly Plugin[]) => (await planOf(configText, plugins)).order.map(({ plugin }) => plugin.id)
const refusal = (options: Parameters<typeof startTestGateway>[0]) =>
  startTestGateway(options).then(
    async (gateway) => {
      await gateway.stop()
      throw new Error('it started')
    },
    (error) => error,
  )

let folder: string
let postgres: TestPostgres
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'portico-data-'))
  postgres = await startPostgres()
}, 60_000)
afterAll(async () => {
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
})

/** Another plugin that serves a database: that of a PGlite which runs already. */
async function ownServer(steps: string[] = []) {
  const pglite = await startPglite(await mkdtemp(join(folder, 'own-')))
  const plugin = definePlugin({
    ...base,
    id: 'own-server',
    config: t.Object({ name: t.String({ default: 'mine' }) }),
    provides: { server: databaseServer },
    setup(ctx) {
      steps.push(`setup ${ctx.config.name}`)
      ctx.defer(() => void steps.push('end'))
      return { services: { server: pglite.server }, ready: () => void steps.push('ready') }
    },
  })
  return { plugin, stop: pglite.stop }
}

describe('the database of a gateway', () => {
  test('is the plugin pglite without a url, also where the plugins are given; with one, that plugin is left out and its section is not read', async () => {
    const url = '[database]\nurl = "postgres://127.0.0.1:1/x"\n'
    const other = definePlugin({ ...base, id: 'other', setup: () => {} })
    expect(await idsOf('')).toContain('pglite')
    expect(await idsOf('', [other])).toEqual(['data-folder', 'pglite', 'database', 'event-log', 'sockets', 'tls', 'proxies', 'door', 'auth', 'other'])
    expect(await idsOf(url)).not.toContain('pglite')
    expect(await idsOf(url, [other])).toEqual(['data-folder', 'database', 'event-log', 'sockets', 'tls', 'proxies', 'door', 'auth', 'other'])
    expect((await planOf(`${url}[pglite]\nsilenceMs = "x"\n`)).problems).toEqual([])
    const database = await postgres.newDatabase()
    await using gateway = await startTestGateway({ only: [other], databaseUrl: database })
    expect(gateway.gateway.kernel.plugins().map(({ id, state }) => [id, state])).toEqual([
      ['data-folder', 'ready'],
      ['database', 'ready'],
      ['event-log', 'ready'],
      ['sockets', 'ready'],
      ['tls', 'ready'],
      ['proxies', 'ready'],
      ['door', 'ready'],
      ['auth', 'ready'],
      ['other', 'ready'],
    ])
    expect([(gateway.gateway.kernel.database as DatabaseAccess).kind, gateway.gateway.socketPath, existsSync(join(gateway.dataDir, 'db'))]).toEqual([
      'postgres',
      null,
      false,
    ])
  }, 30_000)

  test('that is none is a problem which names database.url and the plugin', async () => {
    const { problems } = await planOf('[pglite]\nenabled = false\n')
    expect(problems).toEqual([expect.objectContaining({ where: 'database', key: 'url', expected: expect.stringContaining('pglite') })])
    const error = (await refusal({ only: [], config: '[pglite]\nenabled = false\n' })) as PlanError
    expect(error.problems).toEqual([...problems])
  })

  test('is configured wrongly together with everything else', async () => {
    const configured = definePlugin({ ...base, id: 'configured', config: t.Object({ n: t.Integer() }), setup: () => {} })
    const error = (await refusal({ only: [configured], config: '[pglite]\nsilenceMs = "long"\n[configured]\nn = "x"\n[nobody]\n' })) as PlanError
    const keys = error.problems.map(({ where, key }: Problem) => `${where} ${key}`)
    expect(keys.sort()).toEqual(['config nobody', 'configured n', 'pglite silenceMs'])
  })

  test('may be served by another plugin: it is set up first, ready with the others, and ends last', async () => {
    const steps: string[] = []
    const { plugin, stop } = await ownServer(steps)
    const user = definePlugin({
      ...base,
      id: 'user',
      requires: { server: databaseServer },
      async setup(ctx) {
        await ctx.db.execute('create table user_things (n int)')
        steps.push(`user on ${typeof ctx.services.server.socketPath}`)
        // Its end still finds the database.
        ctx.defer(async () => void steps.push(`user ends with ${(await ctx.db.execute('select 1 as n')).rows.length}`))
      },
    })
    const gateway = await startTestGateway({ only: [user, plugin], config: '[own-server]\nname = "configured"\n' })
    expect(gateway.gateway.kernel.plugins().map(({ id, state }) => [id, state])).toEqual([
      ['data-folder', 'ready'],
      ['own-server', 'ready'],
      ['database', 'ready'],
      ['event-log', 'ready'],
      ['sockets', 'ready'],
      ['tls', 'ready'],
      ['proxies', 'ready'],
      ['door', 'ready'],
      ['auth', 'ready'],
      ['user', 'ready'],
    ])
    expect(gateway.gateway.socketPath).toContain('.s.PGSQL.5432')
    await gateway.stop()
    expect(steps).toEqual(['setup configured', 'user on string', 'ready', 'user ends with 1', 'end'])
    expect(gateway.log.filter(({ level }) => level === 'error')).toEqual([])
    await stop()
  }, 30_000)

  test.each([
    ['it has no db', (ctx: any) => ctx.db.execute('select 1')],
    ['The event log does not run yet', (ctx: any) => ctx.on({ type: 'x:y', durable: true }, () => {}, { cursor: 'own' })],
  ])('is not there for the plugin that serves it, nor is what needs it: "%s", and the gateway does not start', async (why, use) => {
    const undone: string[] = []
    const plugin = definePlugin({
      ...base,
      id: 'eager',
      provides: { server: databaseServer },
      async setup(ctx): Promise<{ services: { server: DatabaseServer } }> {
        ctx.defer(() => void undone.push('undone'))
        await use(ctx)
        throw new Error('it was let through')
      },
    })
    const error = await refusal({ only: [plugin] })
    expect(error.message).toContain(why)
    expect(undone).toEqual(['undone'])
  })

  test('does not start with a plugin that promises a server and returns none, or that requires another one', async () => {
    const setup = () => ({ services: {} }) as never
    const empty = definePlugin({ ...base, id: 'empty', provides: { server: databaseServer }, setup })
    expect((await refusal({ only: [empty] })).problems).toEqual([expect.objectContaining({ where: 'empty', key: 'services.server' })])
    const needy = definePlugin({ ...base, id: 'needy', provides: { server: databaseServer }, requires: { kernel }, setup })
    expect((await refusal({ only: [needy] })).message).toContain('[plugin needy] It is set up before the database is open: it has no service "kernel"')
    const dataDir = await mkdtemp(join(folder, 'kept-'))
    await expect(startTestGateway({ only: [empty], dataDir })).rejects.toThrow('services.server')
    // The lock is free again.
    await (await startTestGateway({ only: [], dataDir })).stop()
  }, 30_000)
})
