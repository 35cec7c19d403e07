/** The contract suite for plugins: what every plugin has to do, whatever it does. */
import type { Plugin } from '../contract/plugin.ts'
import { startTestGateway, type TestGateway, type TestGatewayOptions } from './gateway.ts'

/** What the plugin needs to be started. */
export interface ContractOptions extends Pick<TestGatewayOptions, 'config' | 'env' | 'databaseUrl'> {
  /** Plugins it requires, beside the built-in ones. */
  readonly plugins?: readonly Plugin[]
}

/** One rule. `check` rejects with a sentence that says what is wrong and what to do. */
export interface ContractCheck {
  readonly name: string
  check(): Promise<void>
}

/**
 * The rules, for any test runner: `for (const { name, check } of pluginContract(plugin)) test(name, check)`. The first three share a gateway, which the last
 * of all stops: run them in their order, and all of them.
 */
export function pluginContract(plugin: Plugin, options: ContractOptions = {}): readonly ContractCheck[] {
  const start = () => startTestGateway({ ...options, plugins: [...(options.plugins ?? []), plugin] })
  const before = listeners()
  const intervals = watchIntervals()
  let starting: Promise<TestGateway> | undefined
  const started = () => {
    intervals.begin()
    starting ??= start()
    return starting
  }
  const fail = (why: string): never => {
    throw new Error(`[plugin ${plugin.id}] ${why}`)
  }
  const isReady = ({ gateway }: TestGateway, when: string) => {
    const { state, reason } = gateway.kernel.plugins().find(({ id }) => id === plugin.id) ?? {}
    if (state !== 'ready') fail(`is ${state ?? 'not there'}${when}: ${reason ?? 'the log says why'}.`)
  }

  return [
    { name: 'it starts, and is ready', check: async () => isReady(await started(), '') },
    {
      name: 'it owns what it says: routes, events, scopes, tables',
      async check() {
        const { kernel } = (await started()).gateway
        const paths = plugin.paths ?? []
        const own = kernel.routes().filter((route) => route.plugin === plugin.id)
        for (const root of paths) if (!own.some(({ path }) => isUnder(path, root))) fail(`nothing lies under ${root}: leave it out of paths.`)
        for (const { type } of plugin.events ?? [])
          if (kernel.eventTypes().find(({ ref }) => ref.type === type)?.owner !== plugin.id) fail(`does not own the event ${type}.`)
        for (const { id } of plugin.scopes ?? [])
          if (kernel.scopes().find(({ ref }) => ref.id === id)?.owner !== plugin.id) fail(`does not own the scope ${id}.`)
        const prefixes = ['portico_', ...kernel.plugins().map(({ id }) => prefixOf(id))]
        const { rows } = await kernel.database.db.execute("select table_name from information_schema.tables where table_schema = 'public'")
        for (const { table_name: table } of rows as { table_name: string }[])
          if (!prefixes.some((prefix) => table.startsWith(prefix)))
            fail(`its migrations make the table ${table}: let its name begin with ${prefixOf(plugin.id)}.`)
      },
    },
    {
      name: 'it is set up anew while the gateway runs',
      async check() {
        const gateway = await started()
        await gateway.gateway.kernel.reload({ restart: [plugin.id] })
        isReady(gateway, ' after its restart')
      },
    },
    {
      name: 'it stops, and leaves nothing behind',
      async check() {
        const gateway = await started()
        try {
          await gateway.stop()
        } finally {
          intervals.restore()
        }
        if (intervals.left() > 0) fail(`${intervals.left()} of its intervals go on after the stop: clear them in ctx.defer.`)
        for (const [name, count] of listeners())
          if (count > (before.get(name) ?? 0)) fail(`it still listens to "${name}" of the process: take the listener off in ctx.defer.`)
      },
    },
  ]
}

const prefixOf = (id: string) => `${id.replaceAll('-', '_')}_`
const isUnder = (path: string, root: string) => path === root || path.startsWith(root.endsWith('/') ? root : `${root}/`)

/** Of the process: signals, its end, what nobody caught. Others are the runtime's own. */
function listeners(): Map<string, number> {
  const names = process.eventNames().filter((name) => /^(SIG|exit$|beforeExit$|uncaught|unhandled|message$)/.test(String(name)))
  return new Map(names.map((name) => [String(name), process.listenerCount(name as 'exit')]))
}

/** Counts the intervals that are begun between `begin` and `restore`, and not cleared. */
function watchIntervals(): { begin(): void; left(): number; restore(): void } {
  const { setInterval: set, clearInterval: clear } = globalThis
  const open = new Set<unknown>()
  return {
    begin() {
      globalThis.setInterval = ((...args: Parameters<typeof set>) => {
        const handle = set(...args)
        open.add(handle)
        return handle
      }) as typeof set
      globalThis.clearInterval = ((handle: Parameters<typeof clear>[0]) => {
        open.delete(handle)
        clear(handle)
      }) as typeof clear
    },
    left: () => open.size,
    restore() {
      globalThis.setInterval = set
      globalThis.clearInterval = clear
    },
  }
}
