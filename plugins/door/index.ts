/** The plugin `door`: which names the gateway answers to, which origins may call it, and which paths are plain. */
import { definePlugin, door } from 'portico'
import { OriginDoor } from './door.ts'

export default definePlugin({
  id: 'door',
  version: '0.1.0',
  api: 1,
  summary: 'Checks Host, Origin and path of each request, and answers CORS',
  provides: { door },
  // Nothing is answered without it.
  onFailure: 'abort',
  setup: () => ({ services: { door: new OriginDoor() } }),
})
