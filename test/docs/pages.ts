/** The pages of docs/ that are made from the source: what may stand in the config, the events, the error codes, the commands. */
import { tmpdir } from 'node:os'
import { kernelEvents } from '../../kernel/boot/kernel-events.ts'
import { planGateway } from '../../kernel/boot/planning.ts'
import { runCli } from '../../kernel/cli/run.ts'
import { kernelSections } from '../../kernel/config/index.ts'
import { errorTable } from '../../kernel/contract/errors.ts'
import { isSecret, type JsonSchema } from '../../kernel/contract/schema.ts'
import { toJsonSchema } from '../../plugins/docs/contract.ts'

const note = '<!-- Made from the source by "bun run docs": a test says when it is out of date. -->'
const cell = (text: unknown) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ')
const row = (...cells: unknown[]) => `| ${cells.map(cell).join(' | ')} |`
const table = (head: readonly string[], rows: readonly (readonly unknown[])[]) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n')

/** The pages, by their path from the root. */
export async function makePages(): Promise<Record<string, string>> {
  // Away from any portico.toml.
  const { plan } = await planGateway({ flags: { dataDir: `${tmpdir()}/portico-docs` }, env: {}, cwd: tmpdir() })
  const plugins = plan.order.map(({ plugin }) => plugin)
  return {
    'docs/configuration.md': configuration(plan.sections, new Map(plugins.map(({ id, summary }) => [id, summary]))),
    'docs/events.md': events(plugins),
    'docs/errors.md': errors(),
    'docs/cli.md': await commands(),
  }
}

// --- configuration ---

const kernelSummaries: Readonly<Record<string, string>> = {
  gateway: 'Where it listens, and for whom',
  log: 'What is written to the log',
}

function configuration(sections: readonly { id: string; schema: unknown; aliases: readonly string[] }[], summaries: ReadonlyMap<string, string>): string {
  const kernel = new Set(kernelSections.map(({ id }) => id))
  const ordered = [...sections].sort((a, b) => Number(kernel.has(b.id)) - Number(kernel.has(a.id)) || (a.id < b.id ? -1 : 1))
  const parts = ordered.map(({ id, schema, aliases }) => {
    const rows = keysOf(toJsonSchema(schema), schema).filter(([key]) => !['enabled', 'onFailure'].includes(key))
    const also = aliases.length === 0 ? '' : `\n\nAlso read: ${aliases.map((alias) => `\`${alias}\``).join(', ')}.`
    const keys = rows.length === 0 ? 'No keys of its own.' : table(['key', 'what', 'default', ''], rows)
    return `## [${id}]\n\n${summaries.get(id) ?? kernelSummaries[id]}.${also}\n\n${keys}`
  })
  return `# Configuration

${note}

\`portico.toml\` in the folder where the gateway is started, or what \`--config\` or \`PORTICO_CONFIG\` names. Flags beat environment variables beat the file beat the defaults. Without a file the defaults apply.
\`portico init\` writes one, \`portico config check\` says all that is wrong with it, \`portico config schema\` gives editors its JSON Schema. A running gateway takes a change within a second.

- Keys are written in camelCase or snake_case. An unknown key is an error that names the nearest.
- A secret is \`env:NAME\`, \`file:PATH\`, or itself, in a file of mode 0600.
- Every plugin's section also takes \`enabled = false\` (it is not loaded) and \`onFailure\` (\`continue\` or \`abort\`: what its failure does to the gateway).
- \`plugins = ["./my-plugin", "a-package"]\`, as first line, loads others.
- Environment: \`PORTICO_CONFIG\`, \`PORTICO_DATA_DIR\` (default \`~/.local/share/portico\`), \`PORTICO_HOST\`, \`PORTICO_PORT\`; secrets by the names that the file gives.

${parts.join('\n\n')}
`
}

function keysOf(schema: JsonSchema, source: unknown, prefix = ''): [string, string, string, string][] {
  const properties = (schema.properties ?? {}) as Record<string, JsonSchema>
  const sources = ((source as JsonSchema).properties ?? {}) as Record<string, unknown>
  return Object.entries(properties).flatMap(([name, property]): [string, string, string, string][] => {
    const key = `${prefix}${name}`
    if (property.type === 'object' && property.properties) {
      const inner = keysOf(property, sources[name], `${key}.`)
      return property.description ? [[`\`${key}\``, 'table', '', String(property.description)], ...inner] : inner
    }
    const preset = property.default === undefined ? '' : `\`${JSON.stringify(property.default)}\``
    return [[`\`${key}\``, isSecret(sources[name]) ? 'secret' : typeOf(property), preset, String(property.description ?? '')]]
  })
}

function typeOf(schema: JsonSchema): string {
  const { type, minimum, maximum, items } = schema
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => `\`${value}\``).join(', ')
  if (type === 'array') return `list of ${typeOf((items ?? {}) as JsonSchema)}`
  if (type === 'object') return 'table'
  const range = minimum === undefined && maximum === undefined ? '' : ` ${minimum ?? '…'}–${maximum ?? '…'}`
  return `${type ?? 'any'}${range}`
}

// --- events ---

interface Owner {
  readonly id: string
  readonly events?: readonly { type: string; summary: string; durable: boolean; scope: { id: string }; schema: unknown }[]
}

function events(plugins: readonly Owner[]): string {
  const owners: Owner[] = [{ id: 'kernel', events: kernelEvents as never }, ...plugins].filter(({ events: own = [] }) => own.length > 0)
  const parts = [...owners]
    .sort((a, b) => (a.id === 'kernel' ? -1 : b.id === 'kernel' ? 1 : a.id < b.id ? -1 : 1))
    .map(({ id, events: own = [] }) => {
      const rows = own.map(({ type, summary, durable, scope, schema }) => {
        const { properties = {}, required = [] } = toJsonSchema(schema) as { properties?: object; required?: string[] }
        const fields = Object.keys(properties).map((name) => `\`${name}${required.includes(name) ? '' : '?'}\``)
        return [`\`${type}\``, durable ? 'durable' : 'live', scope.id, summary, fields.join(', ')]
      })
      return `## ${id}\n\n${table(['type', '', 'scope', 'what', 'data'], rows)}`
    })
  return `# Events

${note}

Everything that happens is an event. Durable ones are kept and replayed; live ones are gone when nobody listens. Who has the scope sees them; those that belong to a principal, only that one and administrators.

- Watch: \`GET /api/events\` (Server-Sent Events; resumes by \`Last-Event-ID\` or \`?since=\`), \`/ws\` with \`events.subscribe\`, \`portico events tail\`. \`?types=message:*,key:created\` chooses.
- The past: \`GET /api/activity\`. Whole schemas: \`/asyncapi.json\`. Retention: \`[event-log]\` in [configuration.md](configuration.md).

${parts.join('\n\n')}
`
}

// --- errors ---

function errors(): string {
  const rows = Object.entries(errorTable).map(([code, { status, type, summary }]) => [`\`${code}\``, status, `\`${type}\``, summary])
  return `# Errors

${note}

Every error of every route has one shape; under \`/v1\` it is OpenAI's, with \`param\` always there.

\`\`\`json
{ "error": { "code": "validation_failed", "message": "…what, why, and what to do.", "type": "invalid_request_error", "param": "message", "requestId": "…" } }
\`\`\`

\`requestId\` is the answer's \`X-Request-ID\` too, and stands in the log. 429 and 503 say in \`Retry-After\` when to come back. JSON-RPC has codes of its own: [plugins/rpc](../plugins/rpc/README.md).

${table(['code', 'status', 'type', 'what'], rows)}
`
}

// --- commands ---

async function commands(): Promise<string> {
  const help = async (...words: string[]) => {
    let text = ''
    const write = (more: string) => {
      text += more
    }
    const code = await runCli({
      ...{ argv: [...words, '--help'], env: {}, cwd: tmpdir(), stdout: write, stderr: write, color: false, name: 'portico' },
      signal: new AbortController().signal,
    })
    if (code !== 0) throw new Error(`portico ${words.join(' ')} --help: ${text}`)
    return text.trimEnd()
  }
  const named = (page: string) => [...(/^Commands\n((?: {2}.*\n?)+)/m.exec(page)?.[1] ?? '').matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1] as string)
  const root = await help()
  const parts: string[] = []
  for (const name of named(root).sort()) {
    const page = await help(name)
    const children = named(page)
    parts.push(`## ${name}`)
    for (const words of children.length === 0 ? [[name]] : children.sort().map((child) => [name, child]))
      parts.push(`${children.length === 0 ? '' : `### ${words.join(' ')}\n\n`}\`\`\`text\n${await help(...words)}\n\`\`\``)
  }
  return `# Commands

${note}

Every command takes \`--json\` (one JSON value on stdout, errors as JSON on stderr), \`--help\`, \`--config\` and \`--data-dir\`. Commands talk to the gateway that runs on the data folder; without one they open it themselves.
Colours only on a terminal, and not with \`NO_COLOR\`. Exit codes: 0 done, 1 failed, 2 wrong usage.

${parts.join('\n\n')}
`
}
