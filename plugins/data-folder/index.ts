/** The plugin `data-folder`: keeps the data folder for one gateway alone. */
import { dataFolder, definePlugin } from 'portico'
import { lockDataDir } from './lock.ts'

export default definePlugin({
  id: 'data-folder',
  version: '0.1.0',
  api: 1,
  summary: 'Keeps the data folder for one gateway alone',
  provides: { folder: dataFolder },

  async setup({ dataDir, defer }) {
    const lock = await lockDataDir(dataDir)
    defer(lock.release)
    return { services: { folder: { path: dataDir } } }
  },
})
