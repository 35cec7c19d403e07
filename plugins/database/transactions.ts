/** The database over a pool: transactions that guard the one-session rule and tell when they have committed. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { DrizzleQueryError } from 'drizzle-orm/errors'
import { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { NodePgSession, NodePgTransaction } from 'drizzle-orm/node-postgres/session'
import { PgDialect, type PgTransactionConfig } from 'drizzle-orm/pg-core'
import type pg from 'pg'
import { type Database, GatewayError, type Transaction } from 'portico'
import { diskFull, isConnectionError } from './connection-errors.ts'

type Schema = Record<string, never>
type Tx = NodePgTransaction<Schema, Schema>

/** One running outermost transaction. After its end the async context may live on (timers, loops), so `done` decides. */
interface Frame {
  readonly pool: pg.Pool
  readonly config: PgTransactionConfig | undefined
  readonly callbacks: (() => void)[]
  done: boolean
}

const outside =
  'The outer db was used inside db.transaction: the database may have one session only, and it would wait for itself. Use the tx that the transaction gives you.'
const ended = 'A tx was used after its transaction had ended. Await every query inside the body.'
const stranger = 'afterCommit was given something that is not a running transaction of this store. Pass the tx of db.transaction.'
const swallowed = 'The transaction was rolled back at its commit: one of its statements failed and the error was swallowed. Let it throw.'

const dialect = new PgDialect()
const frames = new AsyncLocalStorage<Frame | undefined>()
const frameOf = new WeakMap<Transaction, Frame>()

/** True inside the body of a `db.transaction` that has not ended yet. */
export function inTransaction(): boolean {
  return frames.getStore()?.done === false
}

/** Runs `body` as if no transaction surrounded it: for work that only happens to be started there (live listeners, loops). */
export function outsideTransaction<T>(body: () => T): T {
  return frames.run(undefined, body)
}

/** Calls back once the outermost transaction has committed: never after a throw, a rollback, or a commit that was refused (deferred constraints). The callback must not throw. */
export function afterCommit(tx: Transaction, callback: () => void): void {
  const frame = frameOf.get(tx)
  if (!frame || frame.done) throw new GatewayError('internal_error', stranger)
  frame.callbacks.push(callback)
}

/**
 * The database over a pool. Inside `db.transaction(tx => …)` every query on the outer `db` throws at once: on PGlite, which has one session, it would
 * wait for the transaction that waits for it. `onError` hears what an `afterCommit` callback throws.
 */
export function wrapDatabase(pool: pg.Pool, onError: (error: unknown) => void = () => {}): Database {
  const refuseInside = () => {
    if (inTransaction() && frames.getStore()?.pool === pool) throw new GatewayError('internal_error', outside)
  }
  const session = createSession(refuseInside, (...query) => withClient(pool, (client) => client.query(...query)))
  const prepare = session.prepareQuery.bind(session)
  // Here the refusal comes bare; at the session's client, where statements prepared outside meet it, drizzle wraps it.
  session.prepareQuery = (...query) => {
    refuseInside()
    return prepare(...query)
  }
  session.transaction = async (body, config) => {
    refuseInside()
    const frame: Frame = { pool, config, callbacks: [], done: false }
    const result = await withClient(pool, (client) => transact(client, frame, body))
    for (const callback of frame.callbacks) {
      try {
        outsideTransaction(callback)
      } catch (error) {
        onError(error)
      }
    }
    return result
  }
  return new NodePgDatabase<Schema>(dialect, session, undefined)
}

/** Lends a connection. One that is lost leaves the pool (`pool.query` gives it up at every error, even a refused constraint). */
async function withClient<T>(pool: pg.Pool, body: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let lost = false
  try {
    return await body(client)
  } catch (error) {
    lost = isConnectionError(error)
    throw diskFull(error) ?? error
  } finally {
    client.release(lost)
  }
}

/** Runs `body` between begin and commit. */
async function transact<T>(client: pg.PoolClient, frame: Frame, body: (tx: Tx) => Promise<T>): Promise<T> {
  const refuseAfter = () => {
    if (frame.done) throw new GatewayError('internal_error', ended)
  }
  const session = createSession(refuseAfter, (...query) => client.query(...query))
  const tx = track(new NodePgTransaction<Schema, Schema>(dialect, session, undefined), frame)
  await client.query('begin')
  try {
    if (frame.config) await tx.setTransaction(frame.config)
    const result = await frames
      .run(frame, async () => body(tx))
      .finally(() => {
        frame.done = true
      })
    // PostgreSQL answers the commit of a failed transaction with ROLLBACK, and no error.
    if ((await client.query('commit')).command === 'ROLLBACK') throw new GatewayError('conflict', swallowed)
    return result
  } catch (error) {
    // A rollback fails only with its connection: that error says more than the first, and takes the connection out of the pool.
    if (!isConnectionError(error)) await client.query('rollback')
    throw error
  }
}

/** Notes the transaction's callbacks; those of a nested one join its parent's when its savepoint is released, and are forgotten otherwise. */
function track(tx: Tx, frame: Frame): Tx {
  frameOf.set(tx, frame)
  const nest = tx.transaction.bind(tx)
  tx.transaction = async (body) => {
    const own: Frame = { ...frame, callbacks: [] }
    const result = await nest((inner) => body(track(inner, own)))
    frame.callbacks.push(...own.callbacks)
    return result
  }
  return tx
}

/** drizzle's session on a client that is checked before each query. Statements lose their names, because on PGlite all connections share one set of them. */
function createSession(check: () => void, query: (config: pg.QueryConfig, values: unknown[]) => Promise<unknown>): NodePgSession<Schema, Schema> {
  const checked = (config: pg.QueryConfig, values: unknown[]) => {
    check()
    return query({ ...config, name: undefined }, values)
  }
  const session = new NodePgSession<Schema, Schema>({ query: checked } as unknown as pg.PoolClient, dialect, undefined)
  const prepare = session.prepareQuery.bind(session)
  session.prepareQuery = (...statement) => {
    const prepared = prepare(...statement)
    const execute = prepared.execute.bind(prepared)
    prepared.execute = (...values) => execute(...values).catch(withoutValues)
    return prepared
  }
  return session
}

/** Throws the error again without the values that drizzle lists in it: they are what people wrote, and errors are logged. */
function withoutValues(error: unknown): never {
  if (error instanceof DrizzleQueryError && error.params.length > 0) {
    const told = error.message
    error.message = `Failed query: ${error.query}`
    error.stack = error.stack?.replace(told, () => error.message)
    error.params = []
  }
  throw error
}
