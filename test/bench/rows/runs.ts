/** What durable runs cost, beside the same work without them. */
import { startPostgres } from '../../fixtures/postgres.ts'
import { freshGateway, withPlugins, withUpstream } from '../gateway.ts'
import { startScript } from '../process.ts'
import type { Bench, Figure, Prepared, Row } from '../row.ts'

async function figureOf(url: string, key: string): Promise<number[]> {
  const answer = await fetch(url, { method: 'POST', headers: { authorization: `Bearer ${key}` } })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return [((await answer.json()) as { rate: number }).rate]
}

/** A row that the plugin `runs-bench` measures, on PostgreSQL. */
function inside(figure: Figure, side: string, concurrency: number): Row {
  return {
    id: figure.id,
    figures: [figure],
    async prepare(scope, { runtime }): Promise<Prepared> {
      const postgres = await startPostgres({ fsync: true })
      scope.defer(postgres.stop)
      const databaseUrl = await postgres.newDatabase()
      const upstream = await startScript(scope, 'bun', './servers/mock-upstream.ts')
      const config = `${withPlugins('runs')}[runs]\nconcurrency = ${concurrency}\nmaxQueued = 1000000\n[database]\nurl = "${databaseUrl}"\n[runs-bench]\nupstream = "${upstream.firstLine}"\ndatabaseUrl = "${databaseUrl}"\n${withUpstream(upstream.firstLine)}`
      const { url, key } = await freshGateway(scope, runtime, config)
      return { baseline: () => figureOf(`${url}/runs-bench/${side}-bare`, key), gateway: () => figureOf(`${url}/runs-bench/${side}`, key) }
    },
  }
}

export const runSubmissions = inside(
  {
    ...{ id: 'run-submissions', unit: 'runs/s', digits: 0, bound: { least: 0.4 } },
    title:
      'runs taken in by 10 writers, nothing begun, against transactions that write the same rows of sessions, runs and messages, without events; PostgreSQL',
  },
  'submit',
  0,
)
export const runStarted = inside(
  {
    ...{ id: 'run-started', unit: 'ms', digits: 2, bound: { most: 2 } },
    title: 'from submitting a run to its first model call, a worker free, median, against pg-boss with NOTIFY from sending a job to its handler; PostgreSQL',
  },
  'started',
  16,
)
export const runLag = inside(
  {
    ...{ id: 'run-lag', unit: 'ms', digits: 2, bound: { most: 2 } },
    title: '100 runs that stream at once, the event loop’s lag, 99th percentile, against the same streams by the bare AI SDK; PostgreSQL',
  },
  'lag',
  16,
)
export const runTurn = inside(
  {
    ...{ id: 'run-turn', unit: 'ms', digits: 2, bound: { most: 1.5 } },
    title: 'a whole run of one model call, against the bare AI SDK’s call and the rows it writes; PostgreSQL',
  },
  'turn',
  16,
)

/** ms to the first word of the demo model, the median of 100. */
async function firstWord(url: string, key: string, body: object, marker: string): Promise<number> {
  const times: number[] = []
  for (let n = 0; n < 100; n++) {
    const at = performance.now()
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader()
    const decoder = new TextDecoder()
    let text = ''
    while (!text.includes(marker)) {
      const { done, value } = await reader.read()
      if (done) throw new Error(`${url}: no word came: ${text}`)
      text += decoder.decode(value, { stream: true })
    }
    times.push(performance.now() - at)
    while (!(await reader.read()).done);
  }
  return times.sort((a, b) => a - b)[50] as number
}

export const runFirstToken: Row = {
  id: 'run-first-token',
  figures: [
    {
      ...{ id: 'run-first-token', unit: 'ms', digits: 2, bound: { most: 3 } },
      title: 'from the message to the first word of the demo model through `/api/chat/stream`, a durable run, against `/v1/chat/completions`, median',
      limit:
        'the commit before the first word, a third of it, and the AI SDK, a fifth: `/v1/chat/completions` writes nothing, and passes bytes on (docs/decisions/0025).',
    },
  ],
  async prepare(scope, { runtime }: Bench) {
    const { url, key } = await freshGateway(scope, runtime)
    const messages = [{ role: 'user', content: 'one two three' }]
    return {
      baseline: async () => [await firstWord(`${url}/v1/chat/completions`, key, { model: 'demo/echo', stream: true, messages }, 'one')],
      gateway: async () => [await firstWord(`${url}/api/chat/stream`, key, { model: 'demo/echo', message: 'one two three' }, 'event: token')],
    }
  },
}
