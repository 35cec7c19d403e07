/** A client that does a little of everything without end, at a steady pace. Arguments: origin, bearer of an administrator. Prints `ready` after the first round. */
const [origin = '', bearer] = process.argv.slice(2)
const authorization = `Bearer ${bearer}`
const roundMs = 100

/** Throws when the answer is none of 2xx, or not the status that was expected. */
async function send(path: string, { method = 'GET', body, status }: { method?: string; body?: unknown; status?: number } = {}): Promise<string> {
  const headers = { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const answer = await fetch(`${origin}${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })
  const text = await answer.text()
  if (status === undefined ? !answer.ok : answer.status !== status) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
  return text
}

const messages = [{ role: 'user', content: 'Say something.' }]
const chat = (stream: boolean) => send('/v1/chat/completions', { method: 'POST', body: { model: 'bench/mock', messages, stream } })

/** A reader that comes, takes some events, and goes. */
async function watch(): Promise<void> {
  const leave = new AbortController()
  const answer = await fetch(`${origin}/api/events`, { headers: { authorization }, signal: leave.signal })
  await send('/fan-out?count=20', { method: 'POST' })
  await answer.body?.getReader().read()
  leave.abort()
}

/** Durable events, and rows that come and go. */
async function key(): Promise<void> {
  const { id } = JSON.parse(await send('/api/keys', { method: 'POST', body: { name: 'soak' } })) as { id: string }
  await send(`/api/keys/${id}`, { method: 'DELETE' })
}

for (let round = 0; ; round++) {
  const at = performance.now()
  const work = [...Array.from({ length: 20 }, () => chat(false)), ...Array.from({ length: 20 }, () => send('/v1/models')), watch()]
  work.push(send('/nowhere', { status: 404 }), send('/v1/chat/completions', { method: 'POST', body: [], status: 400 }))
  void chat(true).catch(fail)
  if (round % 10 === 0) work.push(key())
  await Promise.all(work).catch(fail)
  if (round === 0) console.log('ready')
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, roundMs - (performance.now() - at))))
}

function fail(error: unknown): never {
  console.error(error)
  process.exit(1)
}

export {}
