/** The model server behind both sides: as light as can be, one fixed answer, one fixed list. Prints its base URL. */
const usage = { prompt_tokens: 4, completion_tokens: 4, total_tokens: 8 }
const message = { role: 'assistant', content: 'The answer is short.', refusal: null }
const choices = [{ index: 0, message, logprobs: null, finish_reason: 'stop' }]
const completion = JSON.stringify({ id: 'chatcmpl-bench', object: 'chat.completion', created: 1_767_225_600, model: 'mock', choices, usage })
const list = JSON.stringify({ object: 'list', data: [{ id: 'mock', object: 'model', created: 1_767_225_600, owned_by: 'bench' }] })
const headers = { 'content-type': 'application/json' }

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  async fetch(request) {
    if (request.method === 'GET') return new Response(list, { headers })
    await request.arrayBuffer()
    return new Response(completion, { headers })
  },
})
console.log(`${server.url.origin}/v1`)

export {}
