import { afterAll, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import { mixedOperations } from '../../test/fixtures/mixed-operations.ts'
import { databases, silent, temporaryFolder, useStore } from '../../test/fixtures/stores.ts'
import { isConnectionError, openStore } from './open.ts'

/** Awaits the condition; the test's own time-out is the deadline. */
const until = async (condition: () => unknown) => {
  while (!(await condition())) await Bun.sleep(10)
}

describe.each(databases)('the store on %s', (kind) => {
  const fixture = useStore(kind, { poolSize: 4 })
  const db = () => fixture.store.db

  test('1,200 mixed operations, 30 at a time over 4 connections: every result is right', async () => {
    expect(await mixedOperations(db())).toEqual([])
    expect(fixture.store.stats()).toEqual({ 'database.connections': 4, 'database.idle': 4, 'database.waiting': 0, 'database.listeners': 0 })
  }, 180_000)

  test('a parameter and a result of 20 MB pass', async () => {
    const text = 'äß€x'.repeat(2_500_000)
    const { rows } = await db().execute(sql`select ${text}::text as text, length(${text}) as length`)
    expect([rows[0]?.text === text, rows[0]?.length]).toEqual([true, 10_000_000])
  })

  test('a channel is heard, other channels are not, and no more after the end', async () => {
    const heard: string[] = []
    const stop = await fixture.store.listen('Some "channel"', (payload) => heard.push(payload))
    await db().execute(sql`select pg_notify('other', 'no'), pg_notify('Some "channel"', 'one')`)
    await db().transaction(async (tx) => void (await tx.execute(sql`select pg_notify('Some "channel"', 'two')`)))
    await until(() => heard.length === 2)
    expect(heard).toEqual(['one', 'two'])
    await stop()
    await db().execute(sql`select pg_notify('Some "channel"', 'late')`)
    await fixture.store.ping()
    expect(heard).toHaveLength(2)
    expect(fixture.store.stats()['database.listeners']).toBe(0)
  })

  test('a ping is answered, and refuses an aborted signal', async () => {
    await fixture.store.ping()
    await expect(fixture.store.ping(AbortSignal.abort())).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  test('a throwing listener does not end the listening', async () => {
    let calls = 0
    const stop = await fixture.store.listen('throws', () => {
      calls++
      throw new Error('mine')
    })
    for (const n of [1, 2]) {
      await db().execute(sql`select pg_notify('throws', '')`)
      await until(() => calls === n)
    }
    await stop()
  })
})

describe('the store on PostgreSQL', () => {
  const fixture = useStore('postgres', { poolSize: 8 })
  const terminate = () =>
    fixture.postgres?.admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'portico' and pid <> pg_backend_pid()`)

  test('after its connections are terminated under load every pool slot answers, listeners too, and nothing is uncaught', async () => {
    const uncaught: unknown[] = []
    const note = (error: unknown) => uncaught.push(error)
    process.on('uncaughtException', note)
    process.on('unhandledRejection', note)
    const { db, pool, listen } = fixture.store
    const heard: string[] = []
    const stop = await listen('after', (payload) => heard.push(payload))
    let over = false
    const errors: unknown[] = []
    const load = Array.from({ length: 16 }, async (_, n) => {
      while (!over) {
        const work = n % 2 ? db.execute(sql`select pg_sleep(0.001)`) : db.transaction(async (tx) => void (await tx.execute(sql`select pg_sleep(0.001)`)))
        await work.catch((error) => errors.push(error))
      }
    })
    for (let round = 0; round < 5; round++) {
      await Bun.sleep(30)
      await terminate()
    }
    over = true
    await Promise.all(load)
    expect(errors.length).toBeGreaterThan(0)
    expect(errors.filter((error) => !isConnectionError(error))).toEqual([])
    const clients = await Promise.all(Array.from({ length: 8 }, () => pool.connect()))
    const answers = await Promise.all(clients.map((client) => client.query('select 1 as one')))
    for (const client of clients) client.release()
    expect(answers.map(({ rows }) => rows[0].one)).toEqual(Array(8).fill(1))
    await until(() => heard.includes(''))
    // The last cut may have come after that reconnect: then the notification is lost, as documented.
    await until(async () => {
      await db.execute(sql`select pg_notify('after', 'again')`)
      return heard.includes('again')
    })
    await stop()
    process.off('uncaughtException', note)
    process.off('unhandledRejection', note)
    expect(uncaught).toEqual([])
  })

  test('a transaction whose connection is cut fails as a lost connection, and its callback is not called', async () => {
    const error = await fixture.store.db
      .transaction(async (tx) => {
        await tx.execute(sql`select 1`)
        await terminate()
        await tx.execute(sql`select 1`)
      })
      .catch((reason) => reason)
    expect(isConnectionError(error)).toBe(true)
    await fixture.store.ping()
  })

  test('statements and silent transactions have a deadline on the server', async () => {
    const { rows } = await fixture.store.db.execute(
      sql`select current_setting('statement_timeout') as s, current_setting('idle_in_transaction_session_timeout') as i`,
    )
    expect(rows).toEqual([{ s: '30s', i: '10s' }])
  })
})

describe('a server that cannot be reached', () => {
  test('is database_unavailable at the opening', async () => {
    const error = await openStore({ url: 'postgres://127.0.0.1:1/none', dataDir: '/nonexistent', log: silent }).catch((reason) => reason)
    expect([error.code, error.retryAfter]).toEqual(['database_unavailable', 2])
    expect(error.message).toContain('database.url')
  })

  test('and a wrong database is an error of its own', async () => {
    expect(isConnectionError(new pg.DatabaseError('database "x" does not exist', 1, 'error'))).toBe(false)
  })

  test('one that accepts and then is silent fails the ping within a second', async () => {
    const fixture = { silent: false }
    const sockets = new Set<{ destroy(): void }>()
    const ready = Buffer.from('52000000080000000053000000057800 5a0000000549'.replace(' ', ''), 'hex')
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      let started = false
      socket.on('data', () => {
        if (started && fixture.silent) return
        // The first is the start-up; each query is answered as an empty one.
        socket.write(started ? Buffer.from('49000000045a0000000549', 'hex') : Buffer.concat([ready.subarray(0, 9), ready.subarray(-6)]))
        started = true
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const store = await openStore({ url: `postgres://a:b@127.0.0.1:${port}/x`, dataDir: '/nonexistent', log: silent })
    await store.ping()
    fixture.silent = true
    const started = performance.now()
    await expect(store.ping()).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(performance.now() - started).toBeLessThan(1_500)
    for (const socket of sockets) socket.destroy()
    await store.close()
    server.close()
  })
})

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

  test('the socket lies in a folder of mode 0700, a stale one is replaced, and data stays', async () => {
    const dataDir = await folder()
    const first = await openStore({ dataDir, log: silent })
    const socketPath = String(first.socketPath)
    expect(socketPath).toBe(join(dataDir, 'db', '.s.PGSQL.5432'))
    expect((await stat(dirname(socketPath))).mode & 0o777).toBe(0o700)
    await first.db.execute(sql`create table kept (n int)`)
    await expect(openStore({ dataDir, log: silent })).rejects.toMatchObject({ code: 'conflict' })
    await first.ping()
    await first.close()
    expect(existsSync(socketPath)).toBe(false)
    await writeFile(socketPath, 'stale')
    const second = await openStore({ dataDir, log: silent })
    expect(await second.db.execute(sql`select * from kept`)).toMatchObject({ rows: [] })
    await second.close()
  })

  test('a path too long for a socket goes to a private temporary folder, which is removed', async () => {
    const dataDir = join(await folder(), 'long'.repeat(25))
    const store = await openStore({ dataDir, log: silent })
    const socketFolder = dirname(String(store.socketPath))
    expect(socketFolder.length).toBeLessThan(80)
    expect((await stat(socketFolder)).mode & 0o777).toBe(0o700)
    await store.ping()
    await store.close()
    expect(existsSync(socketFolder)).toBe(false)
  })

  test('an image that a crash left half unpacked is thrown away', async () => {
    const dataDir = await folder()
    await (await openStore({ dataDir, log: silent })).close()
    await rm(join(dataDir, 'db', 'created'))
    await rm(join(dataDir, 'db', 'data', 'base'), { recursive: true })
    const store = await openStore({ dataDir, log: silent })
    await store.ping()
    await store.close()
  })

  test('a folder that does not open is said so, and the lock is let go', async () => {
    const dataDir = await folder()
    await (await openStore({ dataDir, log: silent })).close()
    await rm(join(dataDir, 'db', 'data', 'global'), { recursive: true })
    for (let round = 0; round < 2; round++)
      await expect(openStore({ dataDir, log: silent })).rejects.toMatchObject({
        code: 'database_unavailable',
        message: expect.stringContaining('did not open'),
      })
  })

  test('a slow query does not block the event loop', async () => {
    const store = await openStore({ dataDir: await folder(), log: silent })
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
})
