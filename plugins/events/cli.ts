/** `portico events`: the catalogue, and the stream in a terminal. */
import { setTimeout } from 'node:timers/promises'
import { type Command, type CommandContext, defineCommand, GatewayError } from 'portico'
import { readSse } from './read-sse.ts'

const patience = 1_000

const list: Command = {
  summary: 'List the event types',
  examples: ['portico events list', 'portico events list --json'],
  async run({ print, request }) {
    const { components } = await request<{ components: { messages: Record<string, Message> } }>('GET', '/asyncapi.json')
    const types = Object.values(components.messages).map((message) => ({
      ...{ type: message.name, summary: message.summary, owner: message['x-owner'], scope: message['x-scope'], durable: message['x-durable'] },
    }))
    const width = Math.max(...types.map(({ type }) => type.length))
    const lines = types.map(({ type, durable, scope, summary }) => `${type.padEnd(width)}  ${durable ? 'durable' : 'live   '}  ${scope.padEnd(5)}  ${summary}`)
    print(types, lines.join('\n'))
  },
}

interface Message {
  readonly name: string
  readonly summary: string
  readonly 'x-owner': string
  readonly 'x-scope': string
  readonly 'x-durable': boolean
}

const tail: Command = {
  summary: 'Watch events as they happen, until Ctrl-C; a gateway that comes back is followed from where it stopped',
  args: {
    types: { type: 'string', summary: 'Patterns, separated by commas', hint: 'key:*,run:failed' },
    since: { type: 'string', summary: 'First what came after this cursor', hint: 'ms-n' },
    count: { type: 'string', summary: 'End after so many events', hint: 'n' },
  },
  examples: ['portico events tail', 'portico events tail --types "key:*" --json', 'portico events tail --since 1764000000000-0 --count 10'],
  run: watch,
}

export default defineCommand({ summary: 'List the event types, watch events', commands: { list, tail } })

async function watch(context: CommandContext): Promise<number> {
  const { args, json, signal, note, print } = context
  const query = new URLSearchParams({ envelope: 'cloudevents', ...(typeof args.types === 'string' && { types: args.types }) })
  const position = { cursor: typeof args.since === 'string' ? args.since : undefined }
  let left = typeof args.count === 'string' ? toCount(args.count) : Number.POSITIVE_INFINITY
  let connected = false
  while (!signal.aborted) {
    try {
      const headers = new Headers(position.cursor === undefined ? {} : { 'last-event-id': position.cursor })
      const response = await context.fetch(`/api/events?${query}`, { headers })
      if (!response.ok || !response.body) throw new Refused(await said(response))
      for await (const { id, event, data } of readSse(response.body)) {
        if (id !== undefined) position.cursor = id
        if (event === 'ready') {
          note(connected ? 'Connected again.' : 'Watching. Ctrl-C ends it.')
          connected = true
        } else if (event === 'gap') note(`Older events than ${data} are gone from the log.`)
        else if (event !== undefined && data !== '') {
          const fact = JSON.parse(data) as { type: string; time: string; data: unknown }
          print(json ? { cursor: id ?? null, ...fact } : fact, `${fact.time}  ${fact.type}  ${JSON.stringify(fact.data)}`)
          if (--left <= 0) return 0
        }
      }
    } catch (error) {
      if (signal.aborted) break
      if (error instanceof Refused || !connected) throw error
    }
    note('The stream ended; waiting for the gateway.')
    await setTimeout(patience, undefined, { signal }).catch(() => undefined)
  }
  return 0
}

/** The gateway is there and said no: trying again would not help. */
class Refused extends GatewayError {
  constructor(message: string) {
    super('invalid_request', message)
  }
}

async function said(response: Response): Promise<string> {
  const text = await response.text()
  try {
    return (JSON.parse(text) as { error: { message: string } }).error.message
  } catch {
    return `The gateway answered ${response.status}.`
  }
}

function toCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new GatewayError('validation_failed', `--count: found ${JSON.stringify(text)}; expected a number of at least 1.`)
}
