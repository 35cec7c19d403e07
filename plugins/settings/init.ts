/** `portico init`: a commented `portico.toml`, after a few questions, or without any. */
import { existsSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { type Command, type CommandContext, GatewayError } from 'portico'

interface Answers {
  port: number
  provider: 'found' | 'openai' | 'anthropic' | 'google' | 'openai-compatible'
  baseUrl: string
  pairing: boolean
  database: string
}

const presets: Answers = { port: 4766, provider: 'found', baseUrl: 'http://127.0.0.1:9000/v1', pairing: true, database: '' }
const providers = ['found', 'openai', 'anthropic', 'google', 'openai-compatible'] as const

/** The command. */
export const init: Command = {
  summary: 'Write a commented portico.toml, after a few questions',
  args: {
    yes: { type: 'boolean', summary: 'Ask nothing: the presets', alias: 'y' },
    force: { type: 'boolean', summary: 'Replace a file that exists' },
    file: { type: 'string', summary: 'Where to write (default ./portico.toml)', hint: 'path' },
  },
  examples: ['portico init', 'portico init --yes', 'portico init --yes --force --file /etc/portico/portico.toml --json'],
  async run(context) {
    const { args, json, print } = context
    const file = resolve(typeof args.file === 'string' ? args.file : 'portico.toml')
    if (existsSync(file) && args.force !== true) throw new GatewayError('conflict', `${file} exists already: --force replaces it, --file writes elsewhere.`)
    const isAsked = args.yes !== true && !json && process.stdin.isTTY
    if (args.yes !== true && !isAsked) throw new GatewayError('validation_failed', 'There is nobody to ask: take the presets with --yes.')
    const answers = isAsked ? await ask(context) : presets
    if (!answers) return 1
    // Secrets are named, not written; but whoever writes one in should find the file his alone.
    writeFileSync(file, toToml(answers), { mode: 0o600 })
    print({ file, ...answers }, `Wrote ${file}. Look at it, then: portico config check, portico start`)
    return 0
  },
}

/** Undefined when it was left with Ctrl-C or Ctrl-D. */
async function ask({ note }: CommandContext): Promise<Answers | undefined> {
  const lines = createInterface({ input: process.stdin, output: process.stdout })
  const left = new Promise<undefined>((resolve) => lines.once('SIGINT', () => resolve(undefined)).once('close', () => resolve(undefined)))
  const question = async (text: string, preset: string, wrong: (answer: string) => string | undefined): Promise<string> => {
    for (;;) {
      const given = await Promise.race([lines.question(`${text} [${preset}] `), left])
      if (given === undefined) throw new Left()
      const answer = given.trim() || preset
      const why = wrong(answer)
      if (why === undefined) return answer
      note(why)
    }
  }
  try {
    const port = await question('Port?', String(presets.port), (answer) =>
      /^\d{1,5}$/.test(answer) && Number(answer) <= 65_535 ? undefined : 'A number from 0 to 65535.',
    )
    const provider = (await question(`Models from? (${providers.join(', ')})`, presets.provider, (answer) =>
      (providers as readonly string[]).includes(answer) ? undefined : `One of ${providers.join(', ')}: "found" takes Ollama and others on this machine.`,
    )) as Answers['provider']
    const baseUrl =
      provider === 'openai-compatible'
        ? await question('Its address?', presets.baseUrl, (answer) =>
            /^https?:\/\//.test(answer) && URL.canParse(answer) ? undefined : 'A URL such as http://127.0.0.1:9000/v1.',
          )
        : presets.baseUrl
    const pairing = await question('Show a pairing code at the start? (yes, no)', 'yes', (answer) =>
      /^(y|yes|n|no)$/i.test(answer) ? undefined : 'yes or no.',
    )
    const database = await question('Database? (embedded, or the name of an environment variable that holds a postgres:// URL)', 'embedded', (answer) =>
      /^[A-Za-z_][A-Za-z0-9_]*$/.test(answer) ? undefined : 'embedded, or a name such as DATABASE_URL.',
    )
    return { port: Number(port), provider, baseUrl, pairing: /^y/i.test(pairing), database: database === 'embedded' ? '' : database }
  } catch (error) {
    if (!(error instanceof Left)) throw error
    note('Nothing was written.')
    return undefined
  } finally {
    lines.close()
  }
}

class Left extends Error {}

function toToml({ port, provider, baseUrl, pairing, database }: Answers): string {
  const named = provider === 'openai-compatible' ? 'local' : provider
  const models =
    provider === 'found'
      ? [
          '# Ollama, LM Studio, llama.cpp and vLLM on this machine are found by themselves. Others are named:',
          '# [models.providers.openai]',
          '# type = "openai"                      # or anthropic, google, openai-compatible (with baseUrl)',
          '# apiKey = "env:OPENAI_API_KEY"',
        ]
      : [
          `# Its models are ${named}/NAME.`,
          `[models.providers.${named}]`,
          `type = "${provider}"`,
          ...(provider === 'openai-compatible'
            ? [`baseUrl = ${JSON.stringify(baseUrl)}`, '# apiKey = "env:LOCAL_KEY"']
            : [`apiKey = "env:${provider.toUpperCase()}_API_KEY"`]),
        ]
  return `${[
    '# Portico. What stands behind "#" is the preset. "portico config check" says what is wrong; a running gateway takes changes by itself.',
    '# For proposals in an editor: portico config schema > portico.schema.json, and as first line: #:schema ./portico.schema.json',
    '',
    '# plugins = ["./my-plugin"]              # made by: portico plugins new my-plugin',
    '',
    '[gateway]',
    `port = ${port}`,
    '# host = "127.0.0.1"                     # others come in only with allowPublicBind = true, and by the names in hosts',
    `${pairing ? '# ' : ''}requirePairing = ${pairing}${pairing ? '                  # a start shows a code while no device is paired' : ''}`,
    '',
    ...models,
    '',
    ...(database === ''
      ? ['# [database]', '# url = "env:DATABASE_URL"               # PostgreSQL instead of the database in the data folder']
      : ['[database]', `url = "env:${database}"`]),
    '',
    '# [log]',
    '# level = "info"                         # debug, info, warn, error',
    '# format = "text"                        # or json',
  ].join('\n')}\n`
}
