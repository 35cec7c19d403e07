import { afterAll, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { sql } from 'drizzle-orm'
import { openPgliteStore, temporaryFolder } from '../../test/fixtures/pglite.ts'

describe('PGlite in the data folder', () => {
  const folders: string[] = []
  const folder = async () => {
    const made = await temporaryFolder()
    folders.push(made)
    return made
  }
  afterAll(async () => {
    for (const made of folders) await rm(made, { recursive: true, force: true })
  })

  test('that another PostgreSQL wrote is refused by name, with the commands that help, and stays as it is', async () => {
    const dataDir = await folder()
    await (await openPgliteStore(dataDir)).close()
    const version = join(dataDir, 'db', 'data', 'PG_VERSION')
    // What this library itself writes is what it is asked for.
    expect(await readFile(version, 'utf8')).toBe('18\n')
    await writeFile(version, '17\n')
    const error = await openPgliteStore(dataDir).catch((reason) => reason)
    expect(error.code).toBe('conflict')
    for (const words of ['written by PostgreSQL 17; this Portico embeds 18', 'portico backup FILE', 'portico restore FILE --yes --data-dir'])
      expect(error.message).toContain(words)
    expect(existsSync(join(dataDir, 'db', 'data', 'base'))).toBe(true)
    await writeFile(version, '18\n')
    await (await openPgliteStore(dataDir)).close()
  })

  test('the socket lies in a folder of mode 0700, a stale one is replaced, and data stays', async () => {
    const dataDir = await folder()
    const first = await openPgliteStore(dataDir)
    const socketPath = first.socketPath
    expect(socketPath).toBe(join(dataDir, 'db', '.s.PGSQL.5432'))
    expect((await stat(dirname(socketPath))).mode & 0o777).toBe(0o700)
    await first.db.execute(sql`create table kept (n int)`)
    await expect(openPgliteStore(dataDir)).rejects.toMatchObject({ code: 'conflict' })
    await first.ping()
    await first.close()
    expect(existsSync(socketPath)).toBe(false)
    await writeFile(socketPath, 'stale')
    const second = await openPgliteStore(dataDir)
    expect(await second.db.execute(sql`select * from kept`)).toMatchObject({ rows: [] })
    await second.close()
  })

  test('a path too long for a socket goes to a private temporary folder, which is removed', async () => {
    const dataDir = join(await folder(), 'long'.repeat(25))
    const store = await openPgliteStore(dataDir)
    const socketFolder = dirname(store.socketPath)
    expect(socketFolder.length).toBeLessThan(80)
    expect((await stat(socketFolder)).mode & 0o777).toBe(0o700)
    await store.ping()
    await store.close()
    expect(existsSync(socketFolder)).toBe(false)
  })

  test('an image that a crash left half unpacked is thrown away', async () => {
    const dataDir = await folder()
    await (await openPgliteStore(dataDir)).close()
    await rm(join(dataDir, 'db', 'created'))
    await rm(join(dataDir, 'db', 'data', 'base'), { recursive: true })
    const store = await openPgliteStore(dataDir)
    await store.ping()
    await store.close()
  })

  test('a folder that does not open is said so, and the lock is let go', async () => {
    const dataDir = await folder()
    await (await openPgliteStore(dataDir)).close()
    await rm(join(dataDir, 'db', 'data', 'global'), { recursive: true })
    for (let round = 0; round < 2; round++)
      await expect(openPgliteStore(dataDir)).rejects.toMatchObject({
        code: 'database_unavailable',
        message: expect.stringContaining('did not open'),
      })
  })

  test('a slow query does not block the event loop', async () => {
    const store = await openPgliteStore(await folder())
    let last = performance.now()
    let longest = 0
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 5)
    const started = performance.now()
    await store.db.execute(sql`select count(*) from generate_series(1, 3000000)`)
    clearInterval(timer)
    expect(performance.now() - started).toBeGreaterThan(150)
    expect(longest).toBeLessThan((performance.now() - started) / 2)
    await store.close()
  })

  test('when its worker dies, the store answers again by itself', async () => {
    const store = await openPgliteStore(await folder())
    await store.db.execute(sql`create table kept (n int)`)
    await expect(store.pool.query('copy kept from stdin')).rejects.toThrow()
    await expect(store.ping()).rejects.toMatchObject({ code: 'database_unavailable' })
    while ((await store.ping().catch(() => 'away')) === 'away') await Bun.sleep(10)
    expect((await store.db.execute(sql`select 1 as one`)).rows).toEqual([{ one: 1 }])
    await store.close()
  }, 30_000)
})
