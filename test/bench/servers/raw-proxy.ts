/** Baseline: a raw `Bun.serve` that hands each request on with `fetch` to the URL given as its argument. Prints its URL. */
const upstream = process.argv[2] ?? ''
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  async fetch(request) {
    const answer = await fetch(upstream, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer upstream' },
      body: await request.arrayBuffer(),
      signal: request.signal,
    })
    return new Response(answer.body, { status: answer.status, headers: { 'content-type': answer.headers.get('content-type') ?? 'application/json' } })
  },
})
console.log(server.url.origin)

export {}
