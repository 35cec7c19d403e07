/** The model server behind both sides: as light as can be. One fixed answer, one fixed list; streams of 75 tokens, 50 a second, each at its own pace. Prints its base URL. */
import { serve } from './serve.ts'

const usage = { prompt_tokens: 4, completion_tokens: 4, total_tokens: 8 }
const about = { id: 'chatcmpl-bench', created: 1_767_225_600, model: 'mock' }
const message = { role: 'assistant', content: 'The answer is short.', refusal: null }
const completion = JSON.stringify({ ...about, object: 'chat.completion', choices: [{ index: 0, message, logprobs: null, finish_reason: 'stop' }], usage })
const list = JSON.stringify({ object: 'list', data: [{ id: 'mock', object: 'model', created: about.created, owned_by: 'bench' }] })
const headers = { 'content-type': 'application/json' }

const tokens = 75
const paceMs = 20
const frame = (choice: object) => `data: ${JSON.stringify({ ...about, object: 'chat.completion.chunk', choices: [{ index: 0, ...choice }] })}\n\n`
const encoder = new TextEncoder()
const token = encoder.encode(frame({ delta: { content: ' word' }, finish_reason: null }))
const last = encoder.encode(`${frame({ delta: {}, finish_reason: 'stop' })}data: [DONE]\n\n`)

interface Paced {
  readonly controller: ReadableStreamDefaultController<Uint8Array>
  left: number
  due: number
}
const streams = new Set<Paced>()
setInterval(() => {
  const now = performance.now()
  for (const one of streams) {
    if (one.due > now) continue
    one.due += paceMs
    if (one.left-- > 0) one.controller.enqueue(token)
    else {
      streams.delete(one)
      one.controller.enqueue(last)
      one.controller.close()
    }
  }
}, 1)

function paced(): Response {
  let own: Paced
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      own = { controller, left: tokens - 1, due: performance.now() + paceMs }
      controller.enqueue(token)
      streams.add(own)
    },
    cancel: () => void streams.delete(own),
  })
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
}

serve(async (request) => {
  if (request.method === 'GET') return new Response(list, { headers })
  const body = await request.text()
  return body.includes('"stream":true') ? paced() : new Response(completion, { headers })
}, '/v1')
