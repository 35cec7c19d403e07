import { describe, expect, test } from 'bun:test'
import { sql } from 'drizzle-orm'
import { silent } from '../../test/fixtures/pglite.ts'
import { databases, useStore } from '../../test/fixtures/stores.ts'
import { until } from '../../test/fixtures/until.ts'
import { startListening } from './listen.ts'

describe.each(databases)('listening on %s', (kind) => {
  const fixture = useStore(kind, { poolSize: 4 })
  const db = () => fixture.store.db
  const listen = (channel: string, onNotify: (payload: string) => void) => startListening(fixture.store, channel, onNotify, silent)

  test('a channel is heard, other channels are not, and no more after the end', async () => {
    const heard: string[] = []
    const stop = await listen('Some "channel"', (payload) => heard.push(payload))
    await db().execute(sql`select pg_notify('other', 'no'), pg_notify('Some "channel"', 'one')`)
    await db().transaction(async (tx) => void (await tx.execute(sql`select pg_notify('Some "channel"', 'two')`)))
    await until(() => heard.length === 2)
    expect(heard).toEqual(['one', 'two'])
    await stop()
    await db().execute(sql`select pg_notify('Some "channel"', 'late')`)
    await fixture.store.ping()
    expect(heard).toHaveLength(2)
  })

  test('a throwing listener does not end the listening', async () => {
    let calls = 0
    const stop = await listen('throws', () => {
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

describe('listening on PostgreSQL', () => {
  const fixture = useStore('postgres')

  test('a connection that is cut comes back, and says that something may have been missed', async () => {
    const heard: string[] = []
    const stop = await startListening(fixture.store, 'after', (payload) => heard.push(payload), silent)
    await fixture.postgres?.admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'portico' and pid <> pg_backend_pid()`)
    await until(() => heard.includes(''))
    await until(async () => {
      await fixture.store.db.execute(sql`select pg_notify('after', 'again')`).catch(() => undefined)
      return heard.includes('again')
    })
    await stop()
  })
})
