import { describe, expect, test } from 'bun:test'
import { createServer } from 'node:net'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import { mixedOperations } from '../../test/fixtures/mixed-operations.ts'
import { silent } from '../../test/fixtures/pglite.ts'
import { databases, useStore } from '../../test/fixtures/stores.ts'
import { isConnectionError, openStore } from './open.ts'

describe.each(databases)('the store on %s', (kind) => {
  const fixture = useStore(kind, { poolSize: 4 })
  const db = () => fixture.store.db

  test('1,200 mixed operations, 30 at a time over 4 connections: every result is right', async () => {
    expect(await mixedOperations(db())).toEqual([])
    expect(fixture.store.stats()).toEqual({ 'database.connections': 4, 'database.idle': 4, 'database.waiting': 0 })
  }, 180_000)

  test('a parameter and a result of 20 MB pass', async () => {
    const text = 'äß€x'.repeat(2_500_000)
    const { rows } = await db().execute(sql`select ${text}::text as text, length(${text}) as length`)
    expect([rows[0]?.text === text, rows[0]?.length]).toEqual([true, 10_000_000])
  })

  test('a ping is answered', async () => {
    await fixture.store.ping()
  })
})

describe('the store on PostgreSQL', () => {
  const fixture = useStore('postgres', { poolSize: 8 })
  const terminate = () =>
    fixture.postgres?.admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'portico' and pid <> pg_backend_pid()`)

  test('after its connections are terminated under load every pool slot answers, a pool of one’s own too, and nothing is uncaught', async () => {
    const uncaught: unknown[] = []
    const note = (error: unknown) => uncaught.push(error)
    process.on('uncaughtException', note)
    process.on('unhandledRejection', note)
    const { db, pool, openPool } = fixture.store
    const own = openPool({ max: 1 }).on('error', () => {})
    await own.query('select 1')
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
    expect((await own.query('select 1 as one').catch(() => own.query('select 1 as one'))).rows[0].one).toBe(1)
    await own.end()
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

  test('a slow statement is none of a silent server, though every connection is taken by one', async () => {
    // What was cut before is found out by whoever uses it next.
    await Promise.all(Array.from({ length: 8 }, () => fixture.store.pool.query('select 1').catch(() => undefined)))
    const slow = Array.from({ length: 8 }, () => fixture.store.pool.query('select pg_sleep(4), 1 as one'))
    const started = performance.now()
    await fixture.store.ping()
    expect(performance.now() - started).toBeLessThan(1_000)
    expect((await Promise.all(slow)).map(({ rows }) => rows[0].one)).toEqual(Array(8).fill(1))
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
    const error = await openStore({ url: 'postgres://127.0.0.1:1/none', log: silent }).catch((reason) => reason)
    expect([error.code, error.retryAfter]).toEqual(['database_unavailable', 2])
    expect(error.message).toContain('database.url')
  })

  test('and a wrong database is an error of its own', async () => {
    expect(isConnectionError(new pg.DatabaseError('database "x" does not exist', 1, 'error'))).toBe(false)
  })

  test('one that accepts and then is silent fails the ping within a second, and what waits for it within seconds', async () => {
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
    const store = await openStore({ url: `postgres://a:b@127.0.0.1:${port}/x`, log: silent })
    await store.ping()
    fixture.silent = true
    const started = performance.now()
    await expect(store.ping()).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(performance.now() - started).toBeLessThan(1_500)
    const error = await store.pool.query('select 1').catch((reason) => reason)
    expect([isConnectionError(error), performance.now() - started < 9_000]).toEqual([true, true])
    for (const socket of sockets) socket.destroy()
    await store.close()
    server.close()
  })
})
