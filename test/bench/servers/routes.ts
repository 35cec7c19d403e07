/** A gateway in process with so many plugins, each with its share of so many routes, and nothing else. Prints its URL. Arguments: plugins, routes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startGateway } from '../../../kernel/boot/start.ts'
import { Redactor } from '../../../kernel/cli/redactor.ts'
import { definePlugin, open } from '../../../kernel/contract/index.ts'

const [plugins, routes] = process.argv.slice(2).map(Number) as [number, number]
const dataDir = mkdtempSync(join(tmpdir(), 'portico-bench-'))

/** Every second route has a parameter. */
const made = Array.from({ length: plugins }, (_, plugin) =>
  definePlugin({
    id: `bench-${plugin}`,
    version: '1.0.0',
    api: 1,
    summary: 'Routes',
    paths: [`/bench-${plugin}`],
    setup: () => ({
      routes: [
        open((app) => {
          for (let n = plugin; n < routes; n += plugins) app.get(`/bench-${plugin}/route-${n}${n % 2 === 0 ? '' : '/:id'}`, () => ({ n }))
          return app
        }),
      ],
    }),
  }),
)

const gateway = await startGateway({
  flags: { dataDir, port: 0 },
  env: {},
  cwd: dataDir,
  plugins: made,
  redactor: new Redactor(),
  authMethods: [{ name: 'none', authenticate: async () => null }],
})
console.log(gateway.url)
process.once('SIGTERM', async () => {
  await gateway.stop()
  rmSync(dataDir, { recursive: true, force: true })
  process.exit(0)
})
