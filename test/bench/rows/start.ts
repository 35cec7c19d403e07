/** How long a start takes where everything is there already. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { runtimePath } from '../../fixtures/gateway-process.ts'
import { startPostgres } from '../../fixtures/postgres.ts'
import { startGateway, temporaryFolder } from '../gateway.ts'
import { startScript } from '../process.ts'
import type { Row } from '../row.ts'

export const start: Row = {
  id: 'start',
  figures: [
    {
      id: 'start',
      title: 'start to ready on an existing data folder, against a process that only opens the same PGlite',
      unit: 'ms',
      digits: 0,
      bound: { most: 1.4 },
      limit: 'on Deno loading some 400 modules, a fifth of a second in which the database opens as well, and code that is not compiled yet.',
    },
  ],
  async prepare(scope, { runtime }) {
    const dataDir = await temporaryFolder(scope)
    await (await startGateway(runtime, dataDir)).stop()
    return {
      async baseline() {
        await using own = new AsyncDisposableStack()
        const at = performance.now()
        await startScript(own, runtime, './servers/open-pglite.ts', [join(dataDir, 'db', 'data')])
        return [performance.now() - at]
      },
      async gateway() {
        const gateway = await startGateway(runtime, dataDir)
        await gateway.stop()
        return [gateway.startedIn]
      },
    }
  },
}

export const startOnPostgres: Row = {
  id: 'start-postgres',
  figures: [
    {
      id: 'start-postgres',
      title: 'start to ready on an existing PostgreSQL database, against the runtime’s own start and end (`bun -e 0`, `deno eval 0`)',
      unit: 'ms',
      digits: 0,
      bound: { over: 400 },
      limit: 'on Deno loading some 400 modules, and code that is not compiled yet: nothing of it waits for the database.',
    },
  ],
  async prepare(scope, { runtime }) {
    const postgres = await startPostgres()
    scope.defer(postgres.stop)
    const dataDir = await temporaryFolder(scope)
    const config = `[database]\nurl = "${await postgres.newDatabase()}"\n`
    await (await startGateway(runtime, dataDir, config)).stop()
    return {
      async baseline() {
        const at = performance.now()
        await promisify(execFile)(runtimePath(runtime), runtime === 'bun' ? ['-e', '0'] : ['eval', '0'])
        return [performance.now() - at]
      },
      async gateway() {
        const gateway = await startGateway(runtime, dataDir, config)
        await gateway.stop()
        return [gateway.startedIn]
      },
    }
  },
}
