/** `portico runs`: submit, see, follow and end runs. */
import { type Command, type CommandContext, defineCommand, GatewayError } from 'portico'
import { readSse } from 'portico/plugins/events'

interface View {
  readonly run_id: string
  readonly status: string
  readonly agent_id: string
  readonly session_key: string
  readonly model: string
  readonly message: string
  readonly result: string | null
  readonly error: { code: string; message: string } | null
  readonly steps: number
  readonly tokens_used: number
  readonly created_at: string
  readonly ended_at: string | null
}
interface Frame {
  readonly type: string
  readonly event?: string
  readonly delta?: string
  readonly restart?: boolean
  readonly tool?: string
  readonly call_id?: string
  readonly input?: unknown
  readonly is_error?: boolean
  readonly message?: string
  readonly fraction?: number
  readonly approval_ids?: readonly string[]
  readonly code?: string
}

const ends = ['completed', 'failed', 'cancelled', 'rejected']
const runId = { id: { type: 'positional', summary: 'The run: run_…, as "runs list" shows it', required: true } } as const

const submit: Command = {
  summary: 'Submit work, and follow it',
  args: {
    message: { type: 'positional', summary: 'What is to be done', required: true },
    agent: { type: 'string', summary: 'The agent (default: default)', hint: 'id' },
    model: { type: 'string', summary: 'In the place of the agent’s model', hint: 'model' },
    session: { type: 'string', summary: 'The session it goes on in', hint: 'key' },
    detach: { type: 'boolean', summary: 'Print the run’s id and leave it to itself', alias: 'd' },
  },
  examples: ['portico runs submit "Summarise notes.md"', 'portico runs submit "Tidy up" --agent janitor --detach'],
  async run(context) {
    const { args, print, request } = context
    const { message, agent, model, session: session_key } = args
    const made = await request<{ run_id: string }>('POST', '/v1/runs', { message, agent, model, session_key })
    if (args.detach) return print(made, made.run_id)
    return follow(context, made.run_id)
  },
}

const list: Command = {
  summary: 'List runs, the latest first',
  args: {
    status: { type: 'string', summary: `Only these: queued, running, awaiting_approval, ${ends.join(', ')}`, hint: 'state' },
    session: { type: 'string', summary: 'Of one session', hint: 'key' },
    limit: { type: 'string', summary: 'At most, up to 200', hint: 'n', default: '50' },
  },
  examples: ['portico runs list', 'portico runs list --status awaiting_approval --json'],
  async run({ args, print, request }) {
    const query = new URLSearchParams({ limit: String(args.limit) })
    if (args.status) query.set('status', String(args.status))
    if (args.session) query.set('session_key', String(args.session))
    const page = await request<{ data: View[] }>('GET', `/v1/runs?${query}`)
    const rows = page.data.map((run) => [run.run_id, run.status, run.agent_id, run.model, String(run.steps), run.created_at, inShort(run.message, 60)])
    print(
      page,
      rows.length === 0 ? 'No runs yet. Submit one: portico runs submit "…"' : table(['ID', 'STATE', 'AGENT', 'MODEL', 'STEPS', 'CREATED', 'ASKED'], rows),
    )
  },
}

const show: Command = {
  summary: 'Show a run, and what it did',
  args: runId,
  examples: ['portico runs show run_0123'],
  async run({ args, print, request }) {
    const [run, { events }] = await Promise.all([request<View>('GET', pathOf(args.id)), request<{ events: Frame[] }>('GET', `${pathOf(args.id)}/events`)])
    const told = events.map((event) => `  ${lineOf({ ...event, event: event.type })}`)
    const end = run.error ? `${run.error.code}: ${run.error.message}` : (run.result ?? 'Not over yet.')
    print({ ...run, events }, [`${run.run_id}: ${run.status}, ${run.agent_id} with ${run.model}, ${run.tokens_used} tokens`, ...told, '', end].join('\n'))
  },
}

const watch: Command = {
  summary: 'Follow a run, step by step, until it is over',
  args: runId,
  examples: ['portico runs watch run_0123', 'portico runs watch run_0123 --json'],
  run: (context) => follow(context, String(context.args.id)),
}

const cancel: Command = {
  summary: 'Cancel a run and its children',
  args: runId,
  examples: ['portico runs cancel run_0123'],
  async run({ args, print, request }) {
    const answer = await request<{ cancelled: boolean; cancelled_ids: string[] }>('POST', `${pathOf(args.id)}/cancel`)
    print(answer, answer.cancelled ? `Cancelled: ${answer.cancelled_ids.join(', ')}` : `${args.id} was over already.`)
  },
}

const retry: Command = {
  summary: 'The same again, as a new run',
  args: runId,
  examples: ['portico runs retry run_0123'],
  async run({ args, print, request }) {
    const made = await request<{ run_id: string }>('POST', `${pathOf(args.id)}/retry`)
    print(made, made.run_id)
  },
}

const remove: Command = {
  summary: 'Delete a run with all it left; one that is not over is cancelled first',
  args: runId,
  examples: ['portico runs delete run_0123'],
  async run({ args, print, request }) {
    const answer = await request('DELETE', `${pathOf(args.id)}?purge=true`)
    print(answer, `${args.id} is deleted.`)
  },
}

export default defineCommand({
  summary: 'Submit, see, follow and end runs',
  examples: ['portico runs list', 'portico runs watch run_0123'],
  commands: { submit, list, show, watch, cancel, retry, delete: remove },
})

/** Shows what happens, and comes again where the line broke. The exit code is 0 only for `completed`. */
async function follow({ fetch, json, note, print, signal }: CommandContext, id: string): Promise<number> {
  let last: string | undefined
  let isInText = false
  const say = (text: string) => {
    if (isInText) process.stdout.write('\n')
    isInText = false
    print(undefined, text)
  }
  for (let failures = 0; !signal.aborted; ) {
    try {
      const response = await fetch(`${pathOf(id)}/stream`, { signal, headers: last === undefined ? {} : { 'last-event-id': last } })
      if (!response.ok) throw await toError(response)
      for await (const { data, id: at } of readSse(response.body as ReadableStream<Uint8Array>)) {
        if (data === '') continue
        const frame = JSON.parse(data) as Frame & View
        last = at || last
        failures = 0
        if (json) print(frame)
        if (frame.type === 'error') throw new GatewayError('unavailable', frame.message ?? 'The stream broke off.')
        if (ends.includes(frame.type)) {
          if (!json) say(frame.type === 'completed' ? '' : `${frame.type}${frame.error ? `: ${frame.error.message}` : ''}`)
          return frame.type === 'completed' ? 0 : 1
        }
        if (json || frame.type === 'snapshot') continue
        if (frame.type === 'delta') {
          if (frame.restart) say('(the answer is begun anew)')
          process.stdout.write(frame.delta ?? '')
          isInText = true
        } else {
          const line = lineOf(frame)
          if (line) say(`· ${line}`)
        }
      }
    } catch (error) {
      if (signal.aborted) break
      if (++failures > 5 || (error as GatewayError).code === 'not_found') throw error
      note(`The line broke (${(error as Error).message}); trying again.`)
      await new Promise((resolve) => setTimeout(resolve, 500 * failures))
    }
  }
  return 130
}

/** What a person reads of an event. */
function lineOf({ event, tool, input, is_error: isError, message, fraction, approval_ids: ids, type }: Frame): string {
  if (type === 'progress') return `${fraction === undefined ? '' : `${Math.round(fraction * 100)} % `}${message}`
  if (event === 'started') return 'begun'
  if (event === 'tool_call' || type === 'tool_call') return `${tool} ${inShort(JSON.stringify(input), 120)}`
  if (event === 'tool_result' || type === 'tool_result') return `${tool} ${isError ? 'failed' : 'done'}`
  if (event === 'awaiting_approval') return `waits for a decision: ${(ids ?? []).map((id) => `portico approvals approve ${id}`).join(' · ')}`
  if (event === 'message' || type === 'message') return 'heard a message'
  return event === 'model_call' || type === 'model_call' ? '' : (event ?? '')
}

async function toError(response: Response): Promise<Error> {
  const { error } = (await response.json().catch(() => ({}))) as { error?: { code?: string; message?: string } }
  return Object.assign(new GatewayError('unavailable', error?.message ?? `The gateway answered ${response.status}.`), error?.code ? { code: error.code } : {})
}

function pathOf(id: unknown): string {
  return `/v1/runs/${encodeURIComponent(String(id))}`
}

function inShort(text: string, length: number): string {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length > length ? `${line.slice(0, length - 1)}…` : line
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)))
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
