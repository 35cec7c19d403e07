import { afterAll, beforeAll, expect, test } from 'bun:test'
import { rm } from 'node:fs/promises'
import pg from 'pg'
import { isConnectionError, startPglite, temporaryFolder } from '../../test/fixtures/pglite.ts'

let dataDir: string
let pglite: Awaited<ReturnType<typeof startPglite>>
beforeAll(async () => {
  dataDir = await temporaryFolder()
  pglite = await startPglite(dataDir, { silenceMs: 200, stuckMs: 1_000, sharedBuffersMb: 8 })
}, 240_000)
afterAll(async () => {
  await pglite.stop()
  await rm(dataDir, { recursive: true, force: true })
})

const connect = async () => {
  const client = new pg.Client(pglite.server.connection)
  client.on('error', () => {})
  await client.connect()
  return client
}
/** A client as soon as the database is back. */
const reconnect = async (): Promise<pg.Client> => {
  for (;;) {
    const client = await connect().catch(() => null)
    if (client) return client
    await Bun.sleep(50)
  }
}

test('its page cache is as large as it was told to be', async () => {
  const client = await connect()
  expect((await client.query('show shared_buffers')).rows).toEqual([{ shared_buffers: '8MB' }])
  await client.end()
})

test('a transaction that is silent too long is rolled back and its connection cut; the next one goes on', async () => {
  const [one, two] = [await connect(), await connect()]
  await one.query('create table silence (n int)')
  await one.query('begin')
  await one.query('insert into silence values (1)')
  const ended = new Promise((resolve) => one.once('end', resolve))
  expect((await two.query('select * from silence')).rows).toEqual([])
  await ended
  const error = await one.query('select 1').catch((reason) => reason)
  expect(isConnectionError(error)).toBe(true)
  await two.end()
})

test('who is killed inside a transaction leaves nothing behind', async () => {
  const [one, two] = [await connect(), await connect()]
  await one.query('begin')
  await one.query('create table half (n int)')
  ;(one as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
  expect((await two.query(`select to_regclass('half') as half`)).rows).toEqual([{ half: null }])
  await two.end()
})

test.each([
  ['a statement that PGlite dies of', 'copy silence from stdin'],
  ['a statement without end', 'select count(*) from generate_series(1, 100000000000)'],
])(
  'after %s the database is started again, with its data',
  async (_name, statement) => {
    const one = await reconnect()
    await one.query('create table if not exists kept (n int)')
    await one.query('insert into kept values (1)')
    const error = await one.query(statement).catch((reason) => reason)
    expect(isConnectionError(error)).toBe(true)
    const two = await reconnect()
    expect((await two.query('select n from kept')).rows[0]).toEqual({ n: 1 })
    await two.end()
  },
  30_000,
)
