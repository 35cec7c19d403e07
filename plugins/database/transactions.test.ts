import { describe, expect, test } from 'bun:test'
import { type DrizzleQueryError, sql } from 'drizzle-orm'
import { integer, pgTable } from 'drizzle-orm/pg-core'
import type { Database } from 'portico'
import { databases, useStore } from '../../test/fixtures/stores.ts'
import { afterCommit, inTransaction, outsideTransaction } from './transactions.ts'

const numbers = pgTable('numbers', { n: integer().primaryKey() })

describe.each(databases)('transactions on %s', (kind) => {
  const fixture = useStore(kind)
  const db = () => fixture.store.db
  /** The transaction's rejection, and whether its callback was called. */
  const run = async (body: (tx: any) => Promise<unknown>) => {
    let called = 0
    const error = await db()
      .transaction(async (tx) => {
        afterCommit(tx, () => called++)
        await body(tx)
      })
      .then(
        () => null,
        (reason) => reason,
      )
    return { called, error }
  }

  test('a commit is kept and told, once, after it is there', async () => {
    await db().execute(sql`create table numbers (n int primary key)`)
    let seen: unknown
    await db().transaction(async (tx) => {
      afterCommit(tx, () => {
        seen = db().select().from(numbers)
      })
      await tx.insert(numbers).values({ n: 1 })
      expect(seen).toBeUndefined()
      expect(inTransaction()).toBe(true)
    })
    expect(inTransaction()).toBe(false)
    expect(await (seen as Promise<unknown>)).toEqual([{ n: 1 }])
  })

  test('the error of a query names its statement and its cause, never the values that people wrote', async () => {
    const words = 'canary-of-a-person'
    const failing = (on: Pick<Database, 'execute' | 'select'>) => [
      () => on.execute(sql`select ${words}::int`),
      () => on.select({ n: numbers.n }).from(numbers).where(sql`${words} = any(${numbers.n})`),
    ]
    const errors: DrizzleQueryError[] = []
    const note = (error: DrizzleQueryError) => void errors.push(error)
    for (const attempt of failing(db())) await attempt().then(undefined, note)
    for (const at of [0, 1]) await run(async (tx) => failing(tx)[at]?.()).then(({ error }) => note(error))
    expect(errors.length).toBe(4)
    for (const error of errors) {
      expect(error.message).toStartWith('Failed query: select')
      expect(error.cause).toBeInstanceOf(Error)
      for (const told of [error.message, error.stack ?? '', JSON.stringify(error)]) expect(told).not.toContain(words)
    }
  })

  test('the outer db throws at once inside a transaction, by name, however it is used', async () => {
    const prepared = db().select().from(numbers).prepare('outside')
    await db().transaction(async (tx) => {
      const attempts = [
        () => db().execute(sql`select 1`),
        () => db().select().from(numbers),
        () => db().insert(numbers).values({ n: 99 }),
        () => db().$count(numbers),
        () => db().transaction(async () => {}),
        () => tx.transaction(async () => void (await db().execute(sql`select 1`))),
      ]
      for (const attempt of attempts) {
        const started = performance.now()
        await expect((async () => await attempt())()).rejects.toThrow('The outer db was used inside db.transaction')
        expect(performance.now() - started).toBeLessThan(500)
      }
      const wrapped = await prepared.execute().catch((error) => error)
      expect(wrapped.cause.message).toContain('The outer db was used inside db.transaction')
      expect(await outsideTransaction(async () => inTransaction())).toBe(false)
    })
    expect(await prepared.execute()).toEqual([{ n: 1 }])
  })

  test('work that outlives the transaction that started it may use the outer db', async () => {
    let later: Promise<unknown> | undefined
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    await db().transaction(async () => {
      later = (async () => {
        await ended
        return db().select().from(numbers)
      })()
    })
    resolve()
    expect(await later).toEqual([{ n: 1 }])
  })

  test('a tx that is used after its end throws, and so does afterCommit', async () => {
    let leaked: any
    await db().transaction(async (tx) => {
      leaked = tx
    })
    const error = await leaked.execute(sql`select 1`).catch((reason: Error) => reason)
    expect(error.cause.message).toContain('A tx was used after its transaction had ended')
    expect(() => afterCommit(leaked, () => {})).toThrow('not a running transaction')
  })

  test('nothing is called after a throw, tx.rollback(), a failed statement, a refused deferred constraint', async () => {
    await db().execute(sql`create table children (n int references numbers (n) deferrable initially deferred)`)
    const thrown = await run(async () => {
      throw new Error('changed my mind')
    })
    expect([thrown.called, thrown.error.message]).toEqual([0, 'changed my mind'])
    expect((await run(async (tx) => tx.rollback())).called).toBe(0)
    const failed = await run((tx) => tx.insert(numbers).values({ n: 1 }))
    expect([failed.called, failed.error.cause.code]).toEqual([0, '23505'])
    const deferred = await run((tx) => tx.execute(sql`insert into children values (404)`))
    expect([deferred.called, deferred.error.code]).toEqual([0, '23503'])
    expect(await db().select().from(numbers)).toEqual([{ n: 1 }])
  })

  test('a swallowed error does not pass for a commit', async () => {
    const { called, error } = await run(async (tx) => {
      await tx.insert(numbers).values({ n: 50 })
      await tx
        .insert(numbers)
        .values({ n: 1 })
        .catch(() => {})
    })
    expect(called).toBe(0)
    expect(error.message).toContain('rolled back at its commit')
    expect(await db().$count(numbers)).toBe(1)
  })

  test('nested callbacks wait for the outermost commit and share the fate of their savepoint', async () => {
    const calls: string[] = []
    const body = async (tx: any, end: () => void) => {
      await tx.transaction(async (inner: any) => {
        afterCommit(inner, () => calls.push('kept'))
        await inner.transaction(async (deepest: any) => afterCommit(deepest, () => calls.push('deepest')))
      })
      await tx
        .transaction(async (inner: any) => {
          await inner.insert(numbers).values({ n: 7 })
          afterCommit(inner, () => calls.push('lost'))
          throw new Error('savepoint')
        })
        .catch(() => {})
      expect(calls).toEqual([])
      end()
    }
    await db().transaction((tx) => body(tx, () => {}))
    expect(calls.sort()).toEqual(['deepest', 'kept'])
    calls.length = 0
    await db()
      .transaction((tx) =>
        body(tx, () => {
          throw new Error('all')
        }),
      )
      .catch(() => {})
    expect(calls).toEqual([])
    expect(await db().$count(numbers)).toBe(1)
  })

  test('a callback that throws fails neither the transaction nor the other callbacks', async () => {
    let called = 0
    await db().transaction(async (tx) => {
      afterCommit(tx, () => {
        throw new Error('boom')
      })
      afterCommit(tx, () => called++)
    })
    expect(called).toBe(1)
  })

  test('the transaction takes its configuration', async () => {
    const level = await db().transaction(async (tx) => (await tx.execute(sql`select current_setting('transaction_isolation') as level`)).rows[0]?.level, {
      isolationLevel: 'serializable',
    })
    expect(level).toBe('serializable')
  })

  test('a hundred transactions at once, failing and not, leave every connection usable', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 100 }, (_, n) =>
        db().transaction(async (tx) => {
          await tx.insert(numbers).values({ n: 1_000 + n })
          if (n % 3 === 0) throw new Error('every third')
        }),
      ),
    )
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(66)
    expect(await db().$count(numbers, sql`n >= 1000`)).toBe(66)
    expect(fixture.store.stats()['database.waiting']).toBe(0)
  })
})
