/** `portico plugins new` and `link`: a plugin's folder, with a passing test, and the package `portico` beside it. */
import { existsSync, lstatSync, mkdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Command, GatewayError } from 'portico'

/** Where this package lies: plugins/settings/ is two folders deep, in the checkout and when it is installed. */
const home = fileURLToPath(new URL('../..', import.meta.url).href)

const newCommand: Command = {
  summary: 'Make a plugin: a folder with a route, an event, config and a passing test',
  args: {
    name: { type: 'positional', summary: 'Its id: lower-case letters, digits and dashes', required: true },
    dir: { type: 'string', summary: 'The folder to make (default ./NAME)', hint: 'path' },
  },
  examples: ['portico plugins new greeter', 'portico plugins new greeter --dir ../plugins/greeter --json'],
  async run({ args, print }) {
    const id = String(args.name)
    if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(id) || id.length > 40)
      throw new GatewayError(
        'validation_failed',
        `${JSON.stringify(id)} is no id: write lower-case letters, digits and single dashes, at most 40, such as my-plugin.`,
      )
    const folder = resolve(typeof args.dir === 'string' ? args.dir : id)
    if (existsSync(folder)) throw new GatewayError('conflict', `${folder} exists already: choose another folder with --dir.`)
    const files = filesOf(id)
    mkdirSync(folder, { recursive: true })
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    link(folder)
    const shown = relative(process.cwd(), folder) || '.'
    const lines = [
      `Made ${shown}: ${Object.keys(files).join(', ')}.`,
      '',
      'Type next:',
      `  cd ${shown}`,
      '  npm test                # or: bun test, deno test -A',
      '  npm run check           # its types',
      '',
      `Load it: write plugins = [${JSON.stringify(shown.startsWith('.') ? shown : `./${shown}`)}] as first line of portico.toml. A gateway that runs takes it by itself.`,
    ]
    print({ id, folder, files: Object.keys(files) }, lines.join('\n'))
  },
}

const linkCommand: Command = {
  summary: 'Let a folder outside find the package portico: makes node_modules/portico there',
  args: { path: { type: 'positional', summary: 'The plugin’s folder', required: true } },
  examples: ['portico plugins link ./my-plugin', 'portico plugins link /srv/plugins/greeter --json'],
  async run({ args, print }) {
    const folder = resolve(String(args.path))
    if (!existsSync(folder) || !lstatSync(realpathSync(folder)).isDirectory())
      throw new GatewayError('not_found', `${folder} is no folder: give the folder of the plugin.`)
    print({ folder, target: home }, `${join(folder, 'node_modules', 'portico')} → ${link(folder)}`)
  },
}

/** Both. */
export const authoring = { new: newCommand, link: linkCommand }

/** Makes the link, and one to the types of Node that tests need, where this package has them. */
function link(folder: string): string {
  const types = join(home, 'node_modules', '@types', 'node')
  if (existsSync(types)) linkTo(types, join(folder, 'node_modules', '@types', 'node'))
  return linkTo(home, join(folder, 'node_modules', 'portico'))
}

/** A link that is there already is made anew. What npm has installed is left alone. */
function linkTo(target: string, place: string): string {
  const found = lstatSync(place, { throwIfNoEntry: false })
  if (found && !found.isSymbolicLink()) return place
  if (found) rmSync(place)
  mkdirSync(dirname(place), { recursive: true })
  symlinkSync(target, place, 'dir')
  return target
}

function filesOf(id: string): Record<string, string> {
  const name = id.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
  return {
    'package.json': `${JSON.stringify(
      {
        name: `portico-plugin-${id}`,
        version: '0.1.0',
        type: 'module',
        exports: './index.ts',
        scripts: { test: 'bun test', check: 'tsc' },
        peerDependencies: { portico: '*' },
        devDependencies: { '@types/node': '*', typescript: '*' },
      },
      null,
      2,
    )}\n`,
    'tsconfig.json': `${JSON.stringify(
      {
        compilerOptions: {
          ...{ target: 'ESNext', module: 'Preserve', moduleResolution: 'bundler', strict: true, noEmit: true, skipLibCheck: true },
          ...{
            allowImportingTsExtensions: true,
            resolveJsonModule: true,
            verbatimModuleSyntax: true,
            lib: ['ESNext', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'],
          },
          types: ['node'],
        },
        include: ['*.ts'],
      },
      null,
      2,
    )}\n`,
    'index.ts': `/** The plugin \`${id}\`: says hello. */
import { defineEvent, definePlugin, guard, rpc, t } from 'portico'

const greeted = defineEvent('${id}:greeted', t.Object({ who: t.String() }), { scope: rpc, durable: true, summary: 'Somebody was greeted' })

export default definePlugin({
  id: '${id}',
  version: '0.1.0',
  api: 1,
  summary: 'Says hello',
  config: t.Object({ word: t.String({ default: 'Hello', description: 'What it says' }) }),
  events: [greeted],
  paths: ['/${id}'],

  setup(ctx) {
    return {
      routes: [
        guard(rpc, (app) =>
          app.get(
            '/${id}/:who',
            async ({ params, principal, request }) => {
              await ctx.publish(greeted, { who: params.who }, { principal: principal.id, request })
              return { text: \`\${ctx.config.word}, \${params.who}\` }
            },
            {
              params: t.Object({ who: t.String({ minLength: 1, maxLength: 100 }) }),
              response: t.Object({ text: t.String() }),
              detail: { operationId: '${name}', summary: 'Say hello to somebody' },
            },
          ),
        ),
      ],
    }
  },
})
`,
    'index.test.ts': `import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pluginContract, startTestGateway } from 'portico/testkit'
import plugin from './index.ts'

test('it greets, and tells of it', async () => {
  await using gateway = await startTestGateway({ plugins: [plugin], config: '[${id}]\\nword = "Ciao"\\n' })
  const { status, body } = await gateway.json('/${id}/Rome')
  assert.deepEqual({ status, body }, { status: 200, body: { text: 'Ciao, Rome' } })
  const event = await gateway.events.waitFor('${id}:greeted')
  assert.deepEqual(event.data, { who: 'Rome' })
})

test('without a key it is 401', async () => {
  await using gateway = await startTestGateway({ plugins: [plugin] })
  assert.equal((await gateway.fetch('/${id}/Rome', { as: '' })).status, 401)
})

for (const { name, check } of pluginContract(plugin)) test(name, check)
`,
    'README.md': `# ${id}

Says hello. A plugin for [Portico](https://www.npmjs.com/package/portico).

\`\`\`toml
plugins = ["./${id}"]

[${id}]
word = "Hello"
\`\`\`
`,
    '.gitignore': 'node_modules/\n',
  }
}
