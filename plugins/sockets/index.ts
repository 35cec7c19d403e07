/** The plugin `sockets`: makes WebSockets of the requests to other plugins' socket paths. */
import { definePlugin, socketServer } from 'portico'
import { socketHooks, upgrade } from './live-socket.ts'

export default definePlugin({
  id: 'sockets',
  version: '0.1.0',
  api: 1,
  summary: 'WebSockets for all plugins',
  provides: { socketServer },
  setup: () => ({ services: { socketServer: { hooks: socketHooks, upgrade } } }),
})
