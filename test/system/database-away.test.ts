/** The database goes away under load and comes back: what needs it is told so quickly, the rest never notices, and everything continues by itself. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import pg from 'pg'
import { type DatabaseLoad, type Observed, startDatabaseLoad } from '../fixtures/database-load.ts'
import { runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import { until } from '../fixtures/until.ts'

/** What must hold whichever way it went. */
function checkObserved({ failures, chats, chatFailures, slowestChatMs, readiness }: Observed): void {
  expect(chats).toBeGreaterThan(20)
  expect(chatFailures).toEqual([])
  expect(slowestChatMs).toBeLessThan(2_000)
  expect([...new Set(failures.map(({ what }) => what))]).toEqual(failures.length > 0 ? ['503 database_unavailable'] : [])
  expect(failures.filter(({ retryAfter }) => !(Number(retryAfter) >= 1))).toEqual([])
  expect(Math.max(0, ...failures.map(({ ms }) => ms))).toBeLessThan(9_000)
  expect(readiness.filter((said) => said !== 'ok' && said !== 'down')).toEqual([])
  expect(readiness.at(0)).toBe('ok')
}

/** On a machine with too much to do, the first seconds after the return may be down once more. */
function checkDownAndBack({ readiness }: Observed): void {
  expect(readiness.slice(0, 2)).toEqual(['ok', 'down'])
  expect(readiness.at(-1)).toBe('ok')
}

async function checkNothingUncaught({ gateway }: DatabaseLoad): Promise<void> {
  expect(gateway.stderr + gateway.stdout).not.toMatch(/uncaught|unhandled|unknown plugin/i)
  const metrics = await (await gateway.fetch('/metrics')).text()
  expect(metrics).toMatch(/^portico_faults(_total)? 0$/m)
}

describe.each(runtimes)('on %s', (runtime) => {
  describe('with PostgreSQL', () => {
    let postgres: TestPostgres
    let url: string
    let load: DatabaseLoad
    beforeAll(async () => {
      postgres = await startPostgres()
      url = await postgres.newDatabase()
      load = await startDatabaseLoad((config) => spawnGateway({ runtime, config: `${config}[database]\nurl = "${url}"\n` }))
    }, 120_000)
    afterAll(async () => {
      await load[Symbol.asyncDispose]()
      await postgres.stop()
    })
    afterEach(async () => {
      await checkNothingUncaught(load)
      await load.checkEvents({ connectionString: url })
    })

    test('all back ends are terminated, again and again: every slot answers within 2 s', async () => {
      const observed = await load.during(async () => {
        for (let round = 0; round < 5; round++) {
          await Bun.sleep(50)
          await postgres.terminate()
        }
        expect(await load.recovered()).toBeLessThan(2_000)
      })
      checkObserved(observed)
    }, 60_000)

    test('it is restarted: readiness goes down and back, every slot answers within 2 s of its return', async () => {
      const observed = await load.during(async () => {
        await postgres.restart(2_000)
        expect(await load.recovered()).toBeLessThan(2_000)
      })
      checkObserved(observed)
      expect(observed.failures.length).toBeGreaterThan(0)
      checkDownAndBack(observed)
    }, 60_000)

    test('it hangs: requests are refused within seconds, and go on when it does', async () => {
      const observed = await load.during(async () => {
        const goOn = await postgres.hang()
        await Bun.sleep(8_000)
        goOn()
        expect(await load.recovered()).toBeLessThan(2_000)
      })
      checkObserved(observed)
      expect(observed.failures.length).toBeGreaterThan(12)
      checkDownAndBack(observed)
    }, 60_000)
  })

  test('with the embedded database: its worker dies, twice', async () => {
    await using load = await startDatabaseLoad((config) => spawnGateway({ runtime, config }))
    const database = { host: join(load.gateway.dataDir, 'db'), user: 'postgres', database: 'postgres', ssl: false }
    for (let round = 0; round < 2; round++) {
      const observed = await load.during(async () => {
        const client = new pg.Client(database)
        client.on('error', () => {})
        await client.connect()
        await client.query('create table if not exists deadly (n int)')
        // PGlite does not survive this statement.
        await client.query('copy deadly from stdin').catch(() => {})
        await until(async () => (await fetch(new URL('/readyz', load.gateway.url))).status === 503)
        await load.recovered()
      })
      checkObserved(observed)
      expect(observed.failures.length).toBeGreaterThan(0)
      checkDownAndBack(observed)
    }
    await checkNothingUncaught(load)
    await load.checkEvents(database)
  }, 90_000)
})
