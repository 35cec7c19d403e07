// Does every connection get its own rows? @electric-sql/pglite-socket under 1,200 mixed queries, 30 at a time over 4 connections.
// packages: @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17 pg@8.23.1
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const db = await PGlite.create()
await db.exec('create table kept (id int primary key, value text)')
const server = new PGLiteSocketServer({ db, port: 0, host: '127.0.0.1', maxConnections: 8 })
await server.start()
const port = Number(server.getServerConn().split(':').at(-1))
const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', max: 4 })
pool.on('error', () => {})

const wrong = []
let next = 0
let answered = 0
async function operation(i) {
  const expected = `value ${i}`
  const check = ({ rows }) => rows.length === 1 && rows[0].value === expected
  if (i % 3 === 0) await pool.query('insert into kept values ($1, $2)', [i, expected])
  if (i % 3 === 0 && !check(await pool.query('select value from kept where id = $1', [i]))) wrong.push(`${i}: its own row is not there`)
  if (i % 3 === 1 && !check(await pool.query('select $1::text as value', [expected]))) wrong.push(`${i}: somebody else's answer`)
  if (i % 3 === 2) {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await client.query('insert into kept values ($1, $2)', [i, expected])
      if (!check(await client.query('select value from kept where id = $1', [i]))) wrong.push(`${i}: not its own row in its transaction`)
      await client.query(i % 2 ? 'commit' : 'rollback')
    } finally {
      client.release()
    }
    const { rows } = await pool.query('select value from kept where id = $1', [i])
    if (rows.length !== i % 2) wrong.push(`${i}: ${i % 2 ? 'committed, and gone' : 'rolled back, and there'}`)
  }
}
async function worker() {
  while (next < 1_200) {
    const i = next++
    const outcome = await Promise.race([
      operation(i).then(
        () => 'done',
        (error) => String(error.message),
      ),
      sleep(5_000).then(() => 'silent'),
    ])
    if (outcome === 'done') answered++
    else if (outcome === 'silent') return
    else wrong.push(`${i} failed: ${outcome}`)
  }
}
await Promise.all(Array.from({ length: 30 }, worker))
console.log(`pglite-socket: ${next} begun, ${answered} answered, ${wrong.length} wrong or failed`)
for (const line of wrong.slice(0, 5)) console.log(`  ${line}`)
process.exit(0)
