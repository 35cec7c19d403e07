/** How long a start takes on a data folder that is there already. */
import { join } from 'node:path'
import { startGateway, temporaryFolder } from '../gateway.ts'
import { startServer } from '../process.ts'
import type { Row } from '../row.ts'

export const start: Row = {
  id: 'start',
  title: 'start to ready on an existing data folder, against a process that only opens the same PGlite',
  unit: 'ms',
  digits: 0,
  bound: { most: 1.4 },
  async prepare(scope) {
    const dataDir = await temporaryFolder(scope)
    const first = await startGateway(dataDir)
    await first.stop()
    return {
      async baseline() {
        await using own = new AsyncDisposableStack()
        const at = performance.now()
        await startServer(own, 'open-pglite.ts', [join(dataDir, 'db', 'data')])
        return performance.now() - at
      },
      async gateway() {
        const gateway = await startGateway(dataDir)
        await gateway.stop()
        return gateway.startedIn
      },
    }
  },
}
