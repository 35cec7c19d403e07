/** `portico runs`: submit work, see it, watch it, end it. */
import { setTimeout } from 'node:timers/promises'
import { type Command, type CommandArgument, type CommandContext, defineCommand, type ErrorCode, errorTable, GatewayError, toTable } from 'portico'
import { readSse } from 'portico/plugins/events'

interface View {
  readonly run_id: string
  readonly state: string
  readonly agent_id: string
  readonly session_key: string
  readonly parent_run_id: string | null
  readonly model: string
  readonly message: string
  readonly result: string | null
  readonly error: { readonly code: string; readonly message: string } | null
  readonly steps: number
  readonly tokens_used: number
  readonly created_at: string
  readonly ended_at: string | null
}

interface Frame extends Partial<Omit<View, 'error'>> {
  readonly type: string
  readonly event?: string
  readonly delta?: string
  readonly restart?: boolean
  readonly tool?: string
  readonly input?: unknown
  readonly is_error?: boolean
  readonly fraction?: number
  readonly text?: string
  readonly reason?: string
  readonly approval_ids?: readonly string[]
  readonly code?: string
  readonly error?: View['error']
}

interface Approval {
  readonly id: string
  readonly kind: string
  readonly title: string
  readonly question: string | null
}

/** ms between two attempts to come again, and how many there are. */
const [patience, attempts] = [1_000, 60]
const runId: Readonly<Record<string, CommandArgument>> = { id: { type: 'positional', summary: 'run_…, as `portico runs list` shows it', required: true } }

const list: Command = {
  summary: 'List runs, the latest first',
  args: {
    status: { type: 'string', summary: 'queued, running, awaiting_approval, completed, failed, cancelled or rejected', hint: 'status' },
    agent: { type: 'string', summary: 'Of one agent', hint: 'id' },
    session: { type: 'string', summary: 'Of one session', hint: 'key' },
    limit: { type: 'string', summary: 'At most so many, up to 200 (default 50)', hint: 'n' },
  },
  examples: ['portico runs list', 'portico runs list --status awaiting_approval', 'portico runs list --session notes --limit 10 --json'],
  async run({ args, print, request }) {
    const asked = { status: args.status, agent: args.agent, session_key: args.session, limit: args.limit }
    const query = new URLSearchParams(Object.entries(asked).flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])))
    const page = await request<{ data: View[] }>('GET', `/v1/runs?${query}`)
    const rows = page.data.map((run) => [run.run_id, run.state, run.agent_id, String(run.steps), run.created_at, inShort(run.message, 60)])
    print(
      page,
      rows.length === 0
        ? 'No runs. Submit one: portico runs submit "What is in notes.md?"'
        : toTable([['ID', 'STATE', 'AGENT', 'STEPS', 'CREATED', 'ASKED'], ...rows]),
    )
  },
}

const show: Command = {
  summary: 'Show one run, with its answer and its files',
  args: runId,
  examples: ['portico runs show run_0123', 'portico runs show run_0123 --json'],
  async run({ args, print, request }) {
    const run = await request<View>('GET', pathOf(args.id))
    const { artifacts } = await request<{ artifacts: { path: string; state: string; diff: string }[] }>('GET', `${pathOf(args.id)}/artifacts`)
    const lines = [
      `${run.run_id}  ${run.state}`,
      `agent    ${run.agent_id}, ${run.model}`,
      `session  ${run.session_key}`,
      ...(run.parent_run_id === null ? [] : [`parent   ${run.parent_run_id}`]),
      `created  ${run.created_at}${run.ended_at === null ? '' : `, ended ${run.ended_at}`}`,
      `did      ${countOf(run.steps, 'step')}, ${countOf(run.tokens_used, 'token')}`,
      ...artifacts.map(({ path, state, diff }) => `file     ${path}  ${diff}  ${state}`),
      `asked    ${inShort(run.message, 500)}`,
      ...(run.error === null ? [] : [`error    ${run.error.code}: ${run.error.message}`]),
      ...(run.result === null ? [] : ['', printable(run.result)]),
    ]
    print({ ...run, artifacts }, lines.join('\n'))
  },
}

const watch: Command = {
  summary: 'Watch a run step by step until it is over; exits with 0 when it is completed. Ctrl-C leaves it alone',
  args: runId,
  examples: ['portico runs watch run_0123', 'portico runs watch run_0123 --json'],
  run: (context) => follow(context, String(context.args.id)),
}

const submit: Command = {
  summary: 'Submit work and watch it',
  args: {
    message: { type: 'positional', summary: 'What is to be done', required: true },
    agent: { type: 'string', summary: 'Who does it (default: the agent `default`)', hint: 'id' },
    model: { type: 'string', summary: 'In the place of the agent’s own: provider/model or an alias', hint: 'name' },
    session: { type: 'string', summary: 'Go on in this session', hint: 'key' },
    mode: { type: 'string', summary: 'When the session is at work: followup, steer, collect or interrupt', hint: 'mode' },
    detach: { type: 'boolean', summary: 'Print the run’s id and go', alias: 'd' },
  },
  examples: [
    'portico runs submit "What is in notes.md?"',
    'portico runs submit "Tidy up" --agent janitor --detach',
    'portico runs submit "Stop, the other file" --session notes --mode steer',
  ],
  async run(context) {
    const { message, agent, model, session: session_key, mode, detach } = context.args
    const run = await context.request<{ run_id: string }>('POST', '/v1/runs', { message, agent, model, session_key, mode })
    if (detach !== true) return follow(context, run.run_id)
    context.print(run, run.run_id)
    return 0
  },
}

const cancel: Command = {
  summary: 'Cancel a run and its children',
  args: { ...runId, reason: { type: 'string', summary: 'Why; it is kept with the run', hint: 'text' } },
  examples: ['portico runs cancel run_0123', 'portico runs cancel run_0123 --reason "wrong file"'],
  async run({ args, print, request }) {
    const query = typeof args.reason === 'string' ? `?${new URLSearchParams({ reason: args.reason })}` : ''
    const answer = await request<{ cancelled_ids: string[] }>('POST', `${pathOf(args.id)}/cancel${query}`)
    const { cancelled_ids: ids } = answer
    print(answer, ids.length === 0 ? `${args.id} was over already.` : `Cancelled: ${ids.join(', ')}`)
  },
}

const retry: Command = {
  summary: 'Do a run that is over again, as a new run in the same session',
  args: runId,
  examples: ['portico runs retry run_0123'],
  async run({ args, print, request }) {
    const run = await request<{ run_id: string }>('POST', `${pathOf(args.id)}/retry`)
    print(run, `${run.run_id}\nWatch it: portico runs watch ${run.run_id}`)
  },
}

const remove: Command = {
  summary: 'Delete a run with all it left; one that is not over is cancelled first',
  args: runId,
  examples: ['portico runs delete run_0123'],
  async run({ args, print, request }) {
    print(await request('DELETE', `${pathOf(args.id)}?purge=true`), `${args.id} is deleted.`)
  },
}

export default defineCommand({ summary: 'Submit work to agents, watch it, end it', commands: { list, show, watch, submit, cancel, retry, delete: remove } })

/** Watches until the end, over broken connections and restarts of the gateway. Gives the exit code. */
async function follow(context: CommandContext, id: string): Promise<number> {
  const { signal, note } = context
  const screen = createScreen(context)
  const position: { last?: string } = {}
  for (let failures = 0; ; ) {
    try {
      for await (const frame of framesOf(context, id, position)) {
        failures = 0
        const code = await screen.show(frame)
        if (code !== undefined) return code
      }
      throw new GatewayError('unavailable', 'The stream broke off.')
    } catch (error) {
      screen.endLine()
      if (signal.aborted) {
        note(`${id} goes on. Watch it again: portico runs watch ${id}`)
        return 1
      }
      const isPassing = error instanceof TypeError || ['unavailable', 'database_unavailable', 'plugin_unavailable'].includes((error as GatewayError).code)
      if (!isPassing || ++failures > attempts) throw error
      if (failures === 1) note('The stream ended before the run; waiting for the gateway.')
      await setTimeout(patience, undefined, { signal }).catch(() => undefined)
    }
  }
}

/** The frames of one connection, from where the last one ended. The snapshot is shown once. */
async function* framesOf({ fetch, signal }: CommandContext, id: string, position: { last?: string }): AsyncGenerator<Frame> {
  const headers: Record<string, string> = position.last === undefined ? {} : { 'last-event-id': position.last }
  const response = await fetch(`${pathOf(id)}/stream`, { headers, signal })
  if (!response.ok || !response.body) throw await refusal(response)
  const isAgain = position.last !== undefined
  for await (const { id: at, data } of readSse(response.body)) {
    if (data === '') continue
    const frame = JSON.parse(data) as Frame
    if (frame.type === 'error') throw new GatewayError(toCode(frame.code), frame.message ?? 'The stream failed.')
    if (!(isAgain && frame.type === 'snapshot')) yield frame
    // Once it is shown.
    if (at !== undefined) position.last = at
  }
}

/** What a person sees of a run: the text as it comes, a line for each step; with `--json` the frames. */
function createScreen({ json, print, request }: CommandContext) {
  let isInText = false
  const endLine = () => {
    if (isInText) process.stdout.write('\n')
    isInText = false
  }
  const say = (line: string) => {
    endLine()
    print(undefined, printable(line))
  }
  const asked = async (id: string) => {
    const approval = await request<Approval>('GET', `/api/approvals/${encodeURIComponent(id)}`).catch(() => undefined)
    say(`? ${approval?.question ?? approval?.title ?? id}`)
    if (approval?.kind === 'question') return say(`  Answer it: portico approvals answer ${id} "…"`)
    say(`  Decide: portico approvals approve ${id}`)
    say(`  or:     portico approvals deny ${id}`)
  }

  return {
    endLine,
    /** The exit code when it was the last frame. */
    async show(frame: Frame): Promise<number | undefined> {
      const isLast = ['completed', 'failed', 'cancelled'].includes(frame.type)
      if (json) print(frame)
      else if (isLast) say(endOf(frame))
      else if (frame.type === 'delta') {
        if (frame.restart) say('(begun anew)')
        process.stdout.write(printable(frame.delta ?? ''))
        isInText = true
      } else if (frame.event === 'awaiting_approval') for (const id of frame.approval_ids ?? []) await asked(id)
      else {
        const line = lineOf(frame)
        if (line === '') endLine()
        else say(line)
      }
      return isLast ? Number(frame.type !== 'completed') : undefined
    },
  }
}

function lineOf({ type, event, tool, input, is_error: isError, message, fraction, text, reason, run_id: id, state }: Frame): string {
  if (type === 'snapshot') return `${id} is ${state}.`
  if (event === 'started') return '· working'
  if (reason !== undefined) return `· ${event}: ${reason}`
  if (type === 'tool_call') return `→ ${tool} ${inShort(JSON.stringify(input ?? {}), 120)}`
  if (type === 'tool_result') return isError ? `✗ ${tool} failed` : `✓ ${tool} done`
  if (type === 'progress') return `  ${fraction === undefined ? '' : `${Math.round(fraction * 100)} % `}${message}`
  if (type === 'message') return `· heard: ${inShort(text ?? '', 120)}`
  return ''
}

function endOf({ state, error, steps, tokens_used: tokens }: Frame): string {
  return `${state}${error ? `: ${error.message}` : ''} (${countOf(steps, 'step')}, ${countOf(tokens, 'token')})`
}

function countOf(count = 0, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`
}

async function refusal(response: Response): Promise<GatewayError> {
  const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string; code?: string } }
  return new GatewayError(toCode(error?.code), error?.message ?? `The gateway answered ${response.status}.`)
}

function toCode(code: string | undefined): ErrorCode {
  return code !== undefined && Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'upstream_error'
}

function pathOf(id: unknown): string {
  return `/v1/runs/${encodeURIComponent(String(id))}`
}

function inShort(text: string, length: number): string {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length > length ? `${line.slice(0, length - 1)}…` : line
}

/** What a terminal may be given: nothing of an answer moves the cursor, changes the title or writes to the clipboard. */
function printable(text: string): string {
  return process.stdout.isTTY ? text.replace(/[^\P{Cc}\n\t]/gu, '') : text
}
