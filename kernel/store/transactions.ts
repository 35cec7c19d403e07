/** The drizzle database over a pool: transactions that guard the one-session rule and tell when they have committed. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { NodePgSession, NodePgTransaction } from 'drizzle-orm/node-postgres/session'
import { PgDialect, type PgTransactionConfig } from 'drizzle-orm/pg-core'
import type pg from 'pg'
import { GatewayError } from '../contract/errors.ts'
import type { Database, Transaction } from '../contract/plugin.ts'
import { isConnectionError } from './connection-errors.ts'

type Schema = Record<string, never>
type Tx = NodePgTransaction<Schema, Schema>
type Callback = () => void

/** One running outermost transaction. After its end the async context may live on (timers, loops), so `done` decides. */
interface Frame {
  readonly pool: pg.Pool
  done: boolean
}

const dialect = new PgDialect()
const frames = new AsyncLocalStorage<Frame | undefined>()
const callbacksOf = new WeakMap<Transaction, Callback[]>()

/** True inside the body of a `db.transaction` that has not ended yet. */
export function inTransaction(): boolean {
  return frames.getStore()?.done === false
}

/** Runs `body` as if no transaction surrounded it: for work that only happens to be started there (live listeners, loops). */
export function outsideTransaction<T>(body: () => T): T {
  return frames.run(undefined, body)
}

/** Calls back once the outermost transaction has committed: never after a throw, a rollback, or a commit that was refused (deferred constraints). The callback must not throw. */
export function afterCommit(tx: Transaction, callback: Callback): void {
  const callbacks = callbacksOf.get(tx)
  if (!callbacks)
    throw new GatewayError('internal_error', 'afterCommit was given something that is not a running transaction of this store. Pass the tx of db.transaction.')
  callbacks.push(callback)
}

/**
 * The database over a pool. Inside `db.transaction(tx => …)` every query on the outer `db` throws at once: on PGlite, which has one session, it would
 * wait for the transaction that waits for it. `onError` hears what an `afterCommit` callback throws.
 */
export function wrapDatabase(pool: pg.Pool, onError: (error: unknown) => void = () => {}): Database {
  return new NodePgDatabase<Schema>(dialect, new GuardedSession(pool, onError), undefined)
}

function refuseInside(pool: pg.Pool): void {
  const frame = frames.getStore()
  if (frame && !frame.done && frame.pool === pool)
    throw new GatewayError(
      'internal_error',
      'The outer db was used inside db.transaction: the database may have one session only, and it would wait for itself. Use the tx that the transaction gives you.',
    )
}

class GuardedSession extends NodePgSession<Schema, Schema> {
  /** Here the refusal comes bare; at the client, where statements prepared outside meet it, drizzle wraps it. */
  override prepareQuery: NodePgSession<Schema, Schema>['prepareQuery'] = (...query) => {
    refuseInside(this.pool)
    return super.prepareQuery(...query)
  }
  private readonly pool: pg.Pool
  private readonly onError: (error: unknown) => void

  constructor(pool: pg.Pool, onError: (error: unknown) => void) {
    const client = guardedClient(
      (...input: [pg.QueryConfig]) => queryPool(pool, ...input),
      () => refuseInside(pool),
    )
    super(client, dialect, undefined)
    this.pool = pool
    this.onError = onError
  }

  override async transaction<T>(body: (tx: Tx) => Promise<T>, config?: PgTransactionConfig): Promise<T> {
    refuseInside(this.pool)
    const frame: Frame = { pool: this.pool, done: false }
    const callbacks: Callback[] = []
    const result = await withTransaction(this.pool, async (client) => {
      const guarded = guardedClient(client.query.bind(client), () => {
        if (frame.done) throw new GatewayError('internal_error', 'A tx was used after its transaction had ended. Await every query inside the body.')
      })
      const tx = track(new NodePgTransaction<Schema, Schema>(dialect, new NodePgSession(guarded, dialect, undefined), undefined), callbacks)
      try {
        if (config) await tx.setTransaction(config)
        return await frames.run(frame, () => body(tx))
      } finally {
        frame.done = true
        callbacksOf.delete(tx)
      }
    })
    for (const callback of callbacks) {
      try {
        outsideTransaction(callback)
      } catch (error) {
        this.onError(error)
      }
    }
    return result
  }
}

/** Runs `body` between begin and commit on one connection. A connection whose state is not known afterwards leaves the pool. */
export async function withTransaction<T>(pool: pg.Pool, body: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query('begin')
    const result = await body(client)
    const { command } = await client.query('commit')
    // PostgreSQL answers the commit of a failed transaction with ROLLBACK, and no error.
    if (command === 'ROLLBACK')
      throw new GatewayError(
        'conflict',
        'The transaction was rolled back at its commit: one of its statements failed and the error was swallowed. Let it throw.',
      )
    return result
  } catch (error) {
    if (isConnectionError(error)) broken = error as Error
    else
      await client.query('rollback').catch((fault: Error) => {
        broken = fault
      })
    throw error
  } finally {
    client.release(broken)
  }
}

/** Notes the transaction's callbacks; those of a nested one join its parent's when its savepoint is released, and are forgotten otherwise. */
function track(tx: Tx, callbacks: Callback[]): Tx {
  callbacksOf.set(tx, callbacks)
  const nest = tx.transaction.bind(tx)
  tx.transaction = async (body) => {
    const own: Callback[] = []
    const result = await nest((inner) => body(track(inner, own)))
    callbacks.push(...own)
    return result
  }
  return tx
}

/** A client as drizzle uses it, with a check before each query. */
function guardedClient(query: (...input: never[]) => unknown, check: () => void): pg.PoolClient {
  const guarded = (...input: unknown[]) => {
    check()
    return query(...(input as never[]))
  }
  return { query: guarded } as unknown as pg.PoolClient
}

/** Like `pool.query`, which gives up the connection at every error, even a refused constraint. */
async function queryPool(pool: pg.Pool, ...input: [pg.QueryConfig, unknown[]?]): Promise<pg.QueryResult> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    return await client.query(...input)
  } catch (error) {
    if (isConnectionError(error)) broken = error as Error
    throw error
  } finally {
    client.release(broken)
  }
}
