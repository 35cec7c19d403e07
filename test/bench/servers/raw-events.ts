/** Baseline: an event stream that greets, pings every 15 s, and at `POST /?count=N` gets N frames, each encoded once and enqueued for every reader. Prints its URL. */
import { burst, burstText } from '../burst.ts'
import { serve } from './serve.ts'

type Reader = ReadableStreamDefaultController<Uint8Array>
const readers = new Set<Reader>()
const encoder = new TextEncoder()
const greeting = encoder.encode('retry: 3000\nid: 1767225600000-0\nevent: ready\ndata: {"cursor":"1767225600000-0"}\n\n')
const ping = encoder.encode(': ping\nid: 1767225600000-0\n\n')
const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache, no-transform' }

function enqueue(frame: Uint8Array): void {
  for (const reader of readers) reader.enqueue(frame)
}
setInterval(() => enqueue(ping), 15_000)

serve((request, keepOpen) => {
  if (request.method === 'POST') {
    const count = Number(new URL(request.url).searchParams.get('count'))
    void burst(count, (n) => enqueue(encoder.encode(`event: fan-out:ticked\ndata: ${JSON.stringify({ n, text: burstText })}\n\n`)))
    return Response.json({ count })
  }
  keepOpen()
  let own: Reader
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      own = controller
      readers.add(own)
      own.enqueue(greeting)
    },
    cancel: () => void readers.delete(own),
  })
  return new Response(body, { headers })
})
