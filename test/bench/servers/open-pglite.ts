/** Baseline: opens PGlite in the folder given as its argument, in this process alone, asks it one thing, and prints `ready`. */
import { PGlite } from '@electric-sql/pglite'

const database = await PGlite.create({ dataDir: process.argv[2] ?? '' })
await database.query('select 1')
console.log('ready')
// Held as a gateway holds it: the row of memory looks at it.
setInterval(() => {}, 60_000)
process.once('SIGTERM', async () => {
  await database.close()
  process.exit(0)
})
