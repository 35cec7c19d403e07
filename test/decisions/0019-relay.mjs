// What it costs a paced stream that a proxy sees its bytes: 512 streams of 50 tokens a second through a proxy that hands the body on, and through some that read it and pass it on.
// Each is four processes, of which this one is the client; the upstream is the slower of the others.
import { spawn } from 'node:child_process'

const variants = {
  'handed on': (body) => body,
  'read, async pull': (body) => {
    const reader = body.getReader()
    const pull = async (controller) => {
      const { done, value } = await reader.read()
      if (done) controller.close()
      else controller.enqueue(value)
    }
    return new ReadableStream({ pull }, { highWaterMark: 0 })
  },
  'read, then': (body) => {
    const reader = body.getReader()
    const pull = (controller) => reader.read().then(({ done, value }) => (done ? controller.close() : controller.enqueue(value)))
    return new ReadableStream({ pull }, { highWaterMark: 0 })
  },
  generator: (body) =>
    (async function* () {
      yield* body
    })(),
  transform: (body) => body.pipeThrough(new TransformStream({ transform: (chunk, controller) => controller.enqueue(chunk) })),
  // Bun's own, and without waiting for a slow reader: it may hold without end what nobody reads.
  'direct, unbounded': (body) =>
    new ReadableStream({
      type: 'direct',
      async pull(controller) {
        for await (const chunk of body) {
          controller.write(chunk)
          controller.flush()
        }
        controller.close()
      },
    }),
}

const [role, argument, upstream] = process.argv.slice(2)
const streams = 512
const [paceMs, tokens, rampMs, lastMs] = [20, 75, 1_000, 4_000]

if (role === 'upstream') serveTokens()
else if (role === 'proxy') serve(async (request) => new Response(variants[argument]((await fetch(upstream, { signal: request.signal })).body)))
else {
  const model = await start('upstream')
  for (let round = 0; round < 2; round++) {
    for (const variant of Object.keys(variants)) {
      const proxy = await start('proxy', variant, model.url)
      const { p50, p95 } = await measure(proxy.url)
      console.log(`${variant}: first token after ${p50.toFixed(2)} ms (median), ${p95.toFixed(2)} ms (95th percentile)`)
      proxy.stop()
    }
  }
  model.stop()
  process.exit(0)
}

function serve(fetch) {
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, idleTimeout: 255, fetch })
  console.log(server.url.href)
}

function serveTokens() {
  const token = new TextEncoder().encode(`data: ${JSON.stringify({ text: 'x'.repeat(180) })}\n\n`)
  const open = new Set()
  setInterval(() => {
    const now = performance.now()
    for (const one of open) {
      if (one.due > now) continue
      one.due += paceMs
      one.controller.enqueue(token)
      if (--one.left > 0) continue
      open.delete(one)
      one.controller.close()
    }
  }, 1)
  serve(() => {
    let own
    const start = (controller) => {
      own = { controller, left: tokens - 1, due: performance.now() + paceMs }
      controller.enqueue(token)
      open.add(own)
    }
    return new Response(new ReadableStream({ start, cancel: () => void open.delete(own) }))
  })
}

function start(...args) {
  const env = { ...process.env, BUN_CONFIG_MAX_HTTP_REQUESTS: '4096' }
  const child = spawn(process.execPath, [import.meta.filename, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  return new Promise((resolve) => child.stdout.once('data', (line) => resolve({ url: String(line).trim(), stop: () => child.kill() })))
}

async function measure(url) {
  const { hostname, port } = new URL(url)
  const request = `GET / HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`
  const begun = performance.now()
  const first = []
  let running = streams
  const { promise: over, resolve } = Promise.withResolvers()
  const send = (socket) => {
    Object.assign(socket.data, { sentAt: performance.now(), isHeard: false })
    socket.write(request)
  }
  const data = (socket, chunk) => {
    const { data } = socket
    if (!data.isHeard && chunk.includes('data: {')) {
      data.isHeard = true
      if (data.sentAt - begun > rampMs) first.push(performance.now() - data.sentAt)
    }
    if (chunk.subarray(-5).toString() !== '0\r\n\r\n') return
    if (performance.now() - begun < rampMs + lastMs) return send(socket)
    socket.end()
    if (--running === 0) resolve()
  }
  for (let n = 0; n < streams; n++)
    setTimeout(() => Bun.connect({ hostname, port: Number(port), data: {}, socket: { open: send, data } }), (n / streams) * rampMs)
  await over
  first.sort((a, b) => a - b)
  return { p50: first[Math.floor(first.length / 2)], p95: first[Math.floor(first.length * 0.95)] }
}
