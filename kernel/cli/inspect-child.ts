/** The child of `inspect.ts`: imports one plugin and writes its descriptor as one marked line. */
import { builtins } from '../../plugins/builtins.ts'
import { importPlugin } from '../boot/load.ts'
import { isPlugin, type Plugin } from '../contract/plugin.ts'

const [name = '', cwd = '.', mark = ''] = process.argv.slice(2)

try {
  const builtin = Object.hasOwn(builtins, name) ? builtins[name] : undefined
  const plugin = (await (builtin ? builtin() : importPlugin(name, cwd))).default
  if (!isPlugin(plugin)) throw new Error('its default export is no plugin: export default definePlugin({ … })')
  process.stdout.write(`\n${mark}${JSON.stringify(describe(plugin, builtin ? 'builtin' : name))}\n`, () => process.exit(0))
} catch (error) {
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(`\n${message.split('\n')[0]}\n`, () => process.exit(1))
}

function describe(plugin: Plugin, from: string): Record<string, unknown> {
  const ids = (refs: Readonly<Record<string, { id: string }>> | undefined) => Object.values(refs ?? {}).map(({ id }) => id)
  return {
    ...{ id: plugin.id, version: plugin.version, api: plugin.api, summary: plugin.summary, from },
    usesKernel: [...ids(plugin.requires), ...ids(plugin.optional)].includes('kernel'),
    ...{ requires: ids(plugin.requires), optional: ids(plugin.optional), provides: ids(plugin.provides) },
    ...{ paths: plugin.paths ?? [], adds: (plugin.adds ?? []).map(({ id }) => id), slots: (plugin.slots ?? []).map(({ id }) => id) },
    events: (plugin.events ?? []).map(({ type, durable, scope, summary }) => ({ type, durable, scope: scope.id, summary })),
    scopes: (plugin.scopes ?? []).map(({ id, summary }) => ({ id, summary })),
    commands: (plugin.commands ?? []).map((command) => ({ name: command.name, summary: command.summary })),
    tables: Object.keys(plugin.tables ?? {}),
    config: plugin.config ?? null,
  }
}
