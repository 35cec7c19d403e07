import { expect, test } from 'bun:test'
import { createServer, type Socket } from 'node:net'
import { connect } from './connect.ts'

test('a connection that ended elsewhere is given up before a byte is sent', async () => {
  let bytes = 0
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      bytes += chunk.length
    })
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const { signal } = new AbortController()
  // A literal address is not looked up: what was checked and what is connected to can be made to differ.
  for (const scheme of ['http', 'https']) {
    const strayed = (address: string) => new Error(`strayed to ${address}`)
    const connecting = connect(new URL(`${scheme}://127.0.0.1:${port}/`), { addresses: ['127.0.0.2', '::1'], signal, strayed })
    expect(connecting).rejects.toThrow('strayed to 127.0.0.1')
    await connecting.catch(() => undefined)
  }
  for (let tries = 0; sockets.size > 0 && tries < 200; tries++) await Bun.sleep(5)
  expect([sockets.size, bytes]).toEqual([0, 0])
  // The same in another family's words is no other address.
  const mapped = await connect(new URL(`http://[::ffff:127.0.0.1]:${port}/`), { addresses: ['::ffff:7f00:1'], signal, strayed: () => new Error('strayed') })
  mapped.destroy()
  server.close()
})
