/** A disk without space left: clear refusals, nothing lost that was acknowledged, and it goes on by itself once there is space. Needs root, to mount a disk of its own. */
import { describe, expect, test } from 'bun:test'
import { mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startDatabaseLoad } from '../fixtures/database-load.ts'
import { runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres } from '../fixtures/postgres.ts'
import { until } from '../fixtures/until.ts'

/** A small disk in memory, and what fills it. */
async function mountDisk(size: string) {
  const folder = join(tmpdir(), `portico-disk-${crypto.randomUUID()}`)
  await mkdir(folder)
  const run = (...command: string[]) => Bun.spawnSync(command, { stdout: 'ignore', stderr: 'ignore' })
  if (!run('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'none', folder).success) throw new Error('A disk could not be mounted: run this as root.')
  const ballast = join(folder, 'ballast')
  return {
    folder,
    /** To the last block. */
    fill: () => void run('dd', 'if=/dev/zero', `of=${ballast}`, 'bs=4k'),
    makeSpace: () => rm(ballast),
    async [Symbol.asyncDispose]() {
      run('umount', '-l', folder)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const isPossible =
  process.getuid?.() === 0 &&
  process.platform === 'linux' &&
  (await mountDisk('1m')
    .then(async (disk) => {
      await disk[Symbol.asyncDispose]()
      return true
    })
    .catch(() => false))

if (!isPossible) test('not tried here: only root of a Linux may mount a small disk', () => expect(isPossible).toBe(false))

describe.each(isPossible ? runtimes : [])('on %s, the disk of the embedded database is full', (runtime) => {
  test('first for its tables, then for its write-ahead log', async () => {
    await using disk = await mountDisk('128m')
    await using load = await startDatabaseLoad((config) => spawnGateway({ runtime, config, dataDir: join(disk.folder, 'data') }))
    const database = { host: join(disk.folder, 'data/db'), user: 'postgres', database: 'postgres', ssl: false }

    const tables = await load.during(async () => {
      disk.fill()
      // What is read goes on; a page more of a table is refused.
      await until(async () => (await emit(load.gateway.url, load.gateway.token)).includes('disk'))
      expect((await load.gateway.fetch('/api/keys')).status).toBe(200)
      await disk.makeSpace()
    })
    expect(tables.chatFailures).toEqual([])
    expect([...new Set(tables.failures.map(({ what, retryAfter }) => `${what} ${retryAfter}`))]).toEqual(['503 database_unavailable 10'])

    const log = await load.during(async () => {
      disk.fill()
      // The next segment of the log finds no space: PostgreSQL ends itself then, and cannot start again either.
      const client = new pg.Client(database)
      client.on('error', () => {})
      await client.connect()
      await client.query('select pg_switch_wal()').catch(() => {})
      await until(async () => (await fetch(new URL('/readyz', load.gateway.url))).status === 503)
      await until(() => load.gateway.stderr.includes('did not open'))
      expect(load.gateway.stderr).toMatch(/did not open.*the disk of .* is full/)
      await disk.makeSpace()
    })
    expect(log.chatFailures).toEqual([])
    expect([...new Set(log.failures.map(({ what }) => what))]).toEqual(['503 database_unavailable'])
    expect([log.readiness.includes('down'), log.readiness.at(-1)]).toEqual([true, 'ok'])
    await load.checkEvents(database)
  }, 90_000)
})

describe.each(isPossible ? runtimes : [])('on %s, the disk of PostgreSQL is full', (runtime) => {
  test('first for its tables, then for its write-ahead log, after which it has to be started again', async () => {
    await using disk = await mountDisk('256m')
    const postgres = await startPostgres({ parent: disk.folder })
    try {
      const url = await postgres.newDatabase()
      await using load = await startDatabaseLoad((config) => spawnGateway({ runtime, config: `${config}[database]\nurl = "${url}"\n` }))
      const tables = await load.during(async (refused) => {
        disk.fill()
        await until(async () => (await emit(load.gateway.url, load.gateway.token)).includes('disk'))
        await until(() => refused() > 0)
        expect((await load.gateway.fetch('/api/keys')).status).toBe(200)
        await disk.makeSpace()
      })
      expect(tables.chatFailures).toEqual([])
      expect([...new Set(tables.failures.map(({ what, retryAfter }) => `${what} ${retryAfter}`))]).toEqual(['503 database_unavailable 10'])

      const log = await load.during(async () => {
        disk.fill()
        // Without space for a segment PostgreSQL ends itself, all of it.
        await postgres.admin.query('select pg_switch_wal()').catch(() => {})
        await until(async () => (await fetch(new URL('/readyz', load.gateway.url))).status === 503)
        await disk.makeSpace()
        await postgres.restart()
      })
      expect(log.chatFailures).toEqual([])
      expect([...new Set(log.failures.map(({ what }) => what))]).toEqual(['503 database_unavailable'])
      expect([log.readiness.includes('down'), log.readiness.at(-1)]).toEqual([true, 'ok'])
      await load.checkEvents({ connectionString: url })
    } finally {
      await postgres.stop()
    }
  }, 60_000)
})

/** A number that the load does not count. */
async function emit(url: string, token: string): Promise<string> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  return (await fetch(new URL('/emit', url), { method: 'POST', headers, body: '{"from":-1,"to":-1,"type":"whispered"}' })).text()
}
