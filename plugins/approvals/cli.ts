/** `portico approvals`: the routes of `/api/approvals` on the command line. */
import { type Command, type CommandContext, defineCommand, toTable } from 'portico'

interface View {
  readonly id: string
  readonly runId: string
  readonly kind: string
  readonly title: string
  readonly arguments: unknown
  readonly argumentsHash: string
  readonly question: string | null
  readonly choices: readonly string[]
  readonly state: string
  readonly answer: string | null
  readonly comment: string | null
  readonly decidedBy: string | null
  readonly decidedVia: string | null
  readonly expiresAt: string
  readonly decidedAt: string | null
}

const approvalId = { id: { type: 'positional', summary: 'The approval: apr_…, as "approvals list" shows it', required: true } } as const
const comment = { comment: { type: 'string', summary: 'Why; the model is told when it is denied', hint: 'text' } } as const

const list: Command = {
  summary: 'List what waits for a decision',
  args: {
    all: { type: 'boolean', summary: 'Decided ones too' },
    run: { type: 'string', summary: 'Of one run only', hint: 'run_…' },
    limit: { type: 'string', summary: 'At most, up to 200', hint: 'n', default: '50' },
  },
  examples: ['portico approvals list', 'portico approvals list --all --json'],
  async run({ args, print, request }) {
    const query = new URLSearchParams({
      limit: String(args.limit),
      ...(args.all ? {} : { state: 'pending' }),
      ...(args.run ? { runId: String(args.run) } : {}),
    })
    const page = await request<{ approvals: View[] }>('GET', `/api/approvals?${query}`)
    const rows = page.approvals.map((each) => [
      each.id,
      each.kind,
      cut(printable(each.title), 40),
      each.state,
      inShort(each),
      each.state === 'pending' ? `until ${each.expiresAt}` : '',
    ])
    print(page, rows.length === 0 ? 'Nothing waits for a decision.' : toTable([['ID', 'KIND', 'WHAT', 'STATE', 'ASKED', 'DEADLINE'], ...rows]))
  },
}

const show: Command = {
  summary: 'Show one, with the exact arguments',
  args: approvalId,
  examples: ['portico approvals show apr_0123'],
  async run({ args, print, request }) {
    const approval = await request<View>('GET', pathOf(args.id))
    const { id, kind, title, runId, question, choices, state, decidedBy, decidedVia, decidedAt, answer, comment, expiresAt } = approval
    const lines = [
      `${id}: ${kind}, ${printable(title)}, of ${runId}`,
      ...(question ? [indented(question)] : []),
      ...(choices.length > 0 ? [`Answers: ${choices.map((each) => JSON.stringify(printable(each))).join(', ')}`] : []),
      ...(kind === 'question' ? [] : [indented(JSON.stringify(approval.arguments, null, 2))]),
      state === 'pending' ? `Waits until ${expiresAt}. ${howTo(approval)}` : `${state}${decidedBy ? ` by ${decidedBy}` : ''} (${decidedVia}) at ${decidedAt}`,
      ...(answer ? [`Answer: ${printable(answer)}`] : []),
      ...(comment ? [`Comment: ${printable(comment)}`] : []),
    ]
    print(approval, lines.join('\n'))
  },
}

const approve: Command = {
  summary: 'Let it happen',
  args: { ...approvalId, ...comment },
  examples: ['portico approvals approve apr_0123'],
  run: (context) => decide(context, 'approve'),
}

const deny: Command = {
  summary: 'Refuse it',
  args: { ...approvalId, ...comment },
  examples: ['portico approvals deny apr_0123 --comment "Not on production"'],
  run: (context) => decide(context, 'deny'),
}

const answer: Command = {
  summary: 'Answer a question',
  args: { ...approvalId, answer: { type: 'positional', summary: 'The answer', required: true }, ...comment },
  examples: ['portico approvals answer apr_0123 "the blue one"'],
  run: (context) => decide(context, 'answer'),
}

export default defineCommand({
  summary: 'See and decide what runs wait for',
  examples: ['portico approvals list', 'portico approvals approve apr_0123'],
  commands: { list, show, approve, deny, answer },
})

async function decide({ args, print, request }: CommandContext, how: 'approve' | 'deny' | 'answer'): Promise<void> {
  const body = {
    via: 'cli',
    ...(args.comment === undefined ? {} : { comment: String(args.comment) }),
    ...(how === 'answer' ? { answer: String(args.answer) } : {}),
  }
  const decided = await request<View>('POST', `${pathOf(args.id)}/${how}`, body)
  const isEnd = decided.kind === 'artifacts' && decided.state === 'denied'
  print(decided, `${decided.id} is ${decided.state}; ${decided.runId} ${isEnd ? 'is rejected' : 'goes on'}.`)
}

function pathOf(id: unknown): string {
  return `/api/approvals/${encodeURIComponent(String(id))}`
}

function howTo({ id, kind }: View): string {
  return kind === 'question' ? `Answer: portico approvals answer ${id} "…"` : `Decide: portico approvals approve ${id}, or deny ${id}`
}

function inShort({ kind, question, arguments: args }: View): string {
  return cut(printable(kind === 'question' ? (question ?? '') : JSON.stringify(args)), 80)
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1).toWellFormed()}…` : text
}

// What is asked was written by a model: it may not speak to the terminal, nor turn around or forge the lines that a person decides by.
const unprintable = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

function printable(text: string): string {
  return text.replace(unprintable, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function indented(text: string): string {
  return text
    .split('\n')
    .map((line) => `  ${printable(line)}`)
    .join('\n')
}
