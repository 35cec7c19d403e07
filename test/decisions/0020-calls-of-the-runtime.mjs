// What the runtime's own calls cost a server that answers the same bytes to everybody: processor time of the server for each request, 32 connections.
import { spawn } from 'node:child_process'

const body = JSON.stringify({ object: 'list', data: Array.from({ length: 3 }, (_, n) => ({ id: `demo/${n}`, object: 'model', created: 1, owned_by: 'demo' })) })
const made = new Headers({ 'content-type': 'application/json' })
const answer = () => new Response(body, { headers: made })
const id = 'abcdef01-aaaa-bbbb-cccc-0123456789ab'
let seen

const variants = {
  'answers, and looks at nothing': answer,
  'and reads the URL': (request) => {
    seen = request.url
    return answer()
  },
  'and reads five headers': ({ headers }) => {
    for (const name of ['authorization', 'host', 'origin', 'x-request-id', 'upgrade']) seen = headers.get(name)
    return answer()
  },
  'and sets a header of the answer': () => {
    const response = answer()
    response.headers.set('x-request-id', id)
    return response
  },
  'all of these': (request) => {
    seen = request.url
    for (const name of ['authorization', 'host', 'origin', 'x-request-id', 'upgrade']) seen = request.headers.get(name)
    const response = answer()
    seen = response.headers.get('content-type')
    response.headers.set('x-request-id', crypto.randomUUID())
    return response
  },
}

const [role, variant] = process.argv.slice(2)
if (role === 'server') {
  console.log(Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: variants[variant] }).url.href)
  let begun
  process.on('SIGUSR1', () => {
    begun = process.cpuUsage()
    console.log('counting')
  })
  process.on('SIGTERM', () => {
    const { user, system } = process.cpuUsage(begun)
    console.log(user + system)
    process.exit(seen === 0 ? 1 : 0)
  })
} else for (let round = 0; round < 3; round++) for (const name of Object.keys(variants)) console.log(`${name}: ${(await measure(name)).toFixed(1)} µs`)

async function measure(name) {
  const child = spawn(process.execPath, [import.meta.filename, 'server', name], { stdio: ['ignore', 'pipe', 'inherit'] })
  const said = () => new Promise((resolve) => child.stdout.once('data', (line) => resolve(String(line).trim())))
  const { hostname, port, host } = new URL(await said())
  const request = `GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${'k'.repeat(60)}\r\n\r\n`
  let [answers, open] = [0, true]
  const send = (socket) => void socket.write(request)
  const data = (socket) => {
    answers++
    if (open) send(socket)
    else socket.end()
  }
  for (let n = 0; n < 32; n++) await Bun.connect({ hostname, port: Number(port), socket: { open: send, data } })
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  await pause(1_000)
  child.kill('SIGUSR1')
  await said()
  const before = answers
  await pause(3_000)
  open = false
  const total = answers - before
  child.kill('SIGTERM')
  return Number(await said()) / total
}
