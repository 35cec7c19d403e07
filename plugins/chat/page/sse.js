/** Reads Server-Sent Events (WHATWG HTML §9.2.6) from the body of an answer: `fetch` sends a key in a header, which EventSource cannot. */
export async function* readFrames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (rest + value).split('\n\n')
    rest = blocks.pop()
    for (const block of blocks) yield frameOf(block)
  }
}

function frameOf(block) {
  const frame = { event: 'message', data: '' }
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) frame.event = line.slice(7)
    else if (line.startsWith('data: ')) frame.data += (frame.data && '\n') + line.slice(6)
  }
  return frame
}
