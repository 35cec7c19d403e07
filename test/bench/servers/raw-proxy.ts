/** Baseline: hands each request on with `fetch` to the URL given as its argument. Prints its URL. */
import { serve } from './serve.ts'

const upstream = process.argv[2] ?? ''
serve(async (request, keepOpen) => {
  keepOpen()
  const answer = await fetch(upstream, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer upstream' },
    body: await request.arrayBuffer(),
    signal: request.signal,
  })
  return new Response(answer.body, { status: answer.status, headers: { 'content-type': answer.headers.get('content-type') ?? 'application/json' } })
})
