/** `portico plugins` and `portico config`. Checking and inspecting need no running gateway and open no database. */
import { type Command, defineCommand, type JsonSchema, type ReloadReport } from 'portico'
import type { PluginView } from './routes.ts'
import { authoring } from './scaffold.ts'
import { configJsonSchema } from './schema.ts'

const list: Command = {
  summary: 'List the plugins and how they are',
  examples: ['portico plugins list', 'portico plugins list --json'],
  async run({ print, request }) {
    const answer = await request<{ plugins: PluginView[]; total: number }>('GET', '/api/plugins')
    const width = Math.max(...answer.plugins.map(({ id }) => id.length))
    const lines = answer.plugins.map(({ id, state, version, from, usesKernel, reason, summary }) => {
      const marks = [from === 'builtin' ? '' : `from ${from}`, usesKernel ? 'uses the kernel' : '', reason ?? ''].filter((mark) => mark !== '')
      return `${id.padEnd(width)}  ${state.padEnd(7)}  ${version}  ${summary}${marks.length === 0 ? '' : ` (${marks.join('; ')})`}`
    })
    print(answer, lines.join('\n'))
  },
}

const inspect: Command = {
  summary: 'Read the descriptor of a plugin, without setting it up',
  args: { name: { type: 'positional', summary: 'A built-in id, a path such as ./my-plugin.ts, or an installed package', required: true } },
  examples: ['portico plugins inspect openai', 'portico plugins inspect ./my-plugin.ts --json'],
  async run({ args, print, note, inspect }) {
    const name = String(args.name)
    note(`This runs the top level of ${name} in a process of its own.`)
    const descriptor = await inspect(name)
    print(descriptor, toLines(descriptor).join('\n'))
  },
}

const switching = (action: 'enable' | 'disable' | 'reload', summary: string): Command => ({
  summary,
  args: { id: { type: 'positional', summary: 'Its id', required: true } },
  examples: [`portico plugins ${action} metrics`, `portico plugins ${action} metrics --json`],
  async run({ args, print, request }) {
    const report = await request<Report>('POST', `/api/plugins/${encodeURIComponent(String(args.id))}/${action}`)
    print(report, toText(report))
  },
})

/** `portico plugins`. */
export const plugins = defineCommand({
  summary: 'List the plugins, make one, inspect one, switch them on and off',
  commands: {
    list,
    ...authoring,
    inspect,
    enable: switching('enable', 'Switch a plugin on, in what runs and in the config file'),
    disable: switching('disable', 'Switch a plugin off, in what runs and in the config file'),
    reload: switching('reload', 'Set a plugin up anew; a third party’s module is loaded again'),
  },
})

type Report = ReloadReport & { readonly file?: string }

function toText(report: Report): string {
  const parts = (['keys', 'started', 'restarted', 'reconfigured', 'stopped'] as const).flatMap((name) =>
    report[name].length === 0 ? [] : [`${name === 'keys' ? 'changed' : name}: ${report[name].join(', ')}`],
  )
  const lines = [parts.length === 0 ? 'Nothing changed.' : parts.join('; ')]
  if (report.file !== undefined) lines.push(`Written to ${report.file}.`)
  if (report.needsRestart.length > 0) lines.push(`At the next start only: ${report.needsRestart.join(', ')}.`)
  return lines.join('\n')
}

const check: Command = {
  summary: 'Check the config and the plugins against each other; exit code 1 when the gateway could not start',
  examples: ['portico config check', 'portico config check --config /etc/portico/portico.toml --json'],
  async run({ plan, print, note }) {
    const { file, dataDir, problems, warnings } = await plan()
    const where = file ?? 'No config file: the defaults'
    const found = [`${where}: ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}`, ...problems.map(({ text }) => `  - ${text}`)]
    for (const warning of warnings) note(`Warning: ${warning}`)
    print({ ok: problems.length === 0, file, dataDir, problems, warnings }, problems.length === 0 ? `${where}: good.` : found.join('\n'))
    return problems.length === 0 ? 0 : 1
  },
}

const show: Command = {
  summary: 'Show the config of the gateway, defaults included, secrets redacted',
  args: { section: { type: 'positional', summary: 'Only this section' } },
  examples: ['portico config show', 'portico config show gateway --json'],
  async run({ args, print, request }) {
    const { config } = await request<{ config: JsonSchema; file: string | null }>('GET', '/api/config')
    print(typeof args.section === 'string' ? (config[args.section] ?? null) : config)
  },
}

const schema: Command = {
  summary: 'Print the JSON Schema of the config file, for editors',
  examples: ['portico config schema > portico.schema.json   # then, as first line of portico.toml: #:schema ./portico.schema.json'],
  run: async ({ plan, print }) => print(configJsonSchema((await plan()).sections)),
}

const set: Command = {
  summary: 'Change one key, in what runs and in the config file, whose comments stay',
  args: {
    key: { type: 'positional', summary: 'Section and key, e.g. gateway.maxStreams', required: true },
    value: { type: 'positional', summary: 'JSON, or a word: true, 8080, ["a"], text; without it the key is removed' },
  },
  examples: ['portico config set gateway.maxStreams 128', 'portico config set log.level debug', 'portico config set log.level   # back to the default'],
  async run({ args, print, request }) {
    const value = typeof args.value === 'string' ? toValue(args.value) : null
    const patch = String(args.key)
      .split('.')
      .reduceRight<unknown>((inner, key) => ({ [key]: inner }), value)
    const report = await request<Report>('PATCH', '/api/config', patch)
    print(report, toText(report))
  },
}

const reload: Command = {
  summary: 'Let the running gateway take its config file as it is now; it does so by itself within a second',
  examples: ['portico config reload', 'portico config reload --json'],
  async run({ print, request }) {
    const report = await request<Report>('POST', '/api/config/reload')
    print(report, toText(report))
  },
}

/** `portico config`. */
export const config = defineCommand({ summary: 'Check, show and change the config, print its schema', commands: { check, show, set, reload, schema } })

function toValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function toLines(value: JsonSchema): string[] {
  const entries = Object.entries(value).filter(([, entry]) => entry !== null && !(Array.isArray(entry) && entry.length === 0))
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries.flatMap(([name, entry]) =>
    (Array.isArray(entry) ? entry.map(shown) : [shown(entry)]).map((text, index) => `${(index === 0 ? name : '').padEnd(width)}  ${text}`),
  )
}

function shown(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  if ('type' in value && 'durable' in value) return `${value.type}${value.durable ? '' : ' (live)'}`
  return 'id' in value ? String(value.id) : 'name' in value ? String(value.name) : JSON.stringify(value)
}
