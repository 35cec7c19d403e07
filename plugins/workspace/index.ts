/** The plugin `workspace`: files that runs read, and stage until somebody lets them be written. */
import { join, resolve } from 'node:path'
import { definePlugin, t } from 'portico'
import { workspace } from './contract.ts'
import { createFiles } from './files.ts'
import { artifacts } from './schema.ts'
import { createWorkspace } from './workspace.ts'

export default definePlugin({
  id: 'workspace',
  version: '0.1.0',
  api: 1,
  summary: 'Files that runs read, and stage until somebody lets them be written',
  config: t.Object({
    root: t.Optional(
      t.String({
        minLength: 1,
        description: 'The folder; default files/workspace in the data folder, from where a relative one counts. Made when first needed',
      }),
    ),
    maxFileBytes: t.Integer({ minimum: 1, maximum: 104_857_600, default: 1_048_576, description: 'Bytes of one file that is read or staged' }),
    maxStagedBytes: t.Integer({
      minimum: 1,
      maximum: 1_073_741_824,
      default: 10_485_760,
      description: 'Bytes that the staged files of one run keep, together with what stood there before',
    }),
    maxFiles: t.Integer({ minimum: 1, maximum: 10_000, default: 200, description: 'Files that one run stages' }),
  }),
  provides: { workspace },
  tables: { artifacts },
  migrations: new URL('./migrations', import.meta.url),

  setup({ clock, config, dataDir, db, log }) {
    const { root, ...limits } = config
    const files = createFiles(root === undefined ? join(dataDir, 'files', 'workspace') : resolve(dataDir, root))
    return { services: { workspace: createWorkspace({ db, clock, log, files, limits }) } }
  },
})
