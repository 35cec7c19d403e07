// Does a stream's producer learn that the client left, and does it wait for a slow one? @elysiajs/stream against a web stream.
// packages: elysia@1.4.30 @elysiajs/stream@1.1.0
import { connect } from 'node:net'
import { Stream } from '@elysiajs/stream'
import { Elysia } from 'elysia'

const word = 'x'.repeat(16_384)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const made = { library: 0, web: 0 }
const thrown = []
process.on('uncaughtException', (error) => thrown.push(error.message))
process.on('unhandledRejection', (error) => thrown.push(error.message))
const library = () =>
  new Stream(async (stream) => {
    for (let i = 0; i < 40_000; i++) {
      stream.send(word)
      made.library++
      if (i % 10 === 9) await sleep(1)
    }
    stream.close()
  })
const web = () => {
  const bytes = new TextEncoder().encode(`data: ${word}\n\n`)
  const pull = async (controller) => {
    controller.enqueue(bytes)
    if (++made.web % 10 === 0) await sleep(1)
  }
  return new Response(new ReadableStream({ pull }), { headers: { 'content-type': 'text/event-stream' } })
}
const app = new Elysia().get('/library', library).get('/web', web)
const server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: app.fetch, idleTimeout: 60 })

for (const way of ['library', 'web']) {
  const socket = connect(server.port, '127.0.0.1')
  socket.write(`GET /${way} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n\r\n`)
  socket.pause() // a client that never reads
  await sleep(1_500)
  const stalled = made[way]
  socket.destroy()
  await sleep(1_000)
  console.log(
    `${way}: ${stalled} frames of 16 kB made in 1.5 s for a client that reads nothing, ${made[way] - stalled} more after it left; thrown into the process: ${thrown.splice(0).join(', ') || 'nothing'}`,
  )
}
process.exit(0)
