/** What the gateway keeps its data in: the locked folder, the plugin that serves a database there unless config names one, the store. */
import type { RawConfig } from '../config/index.ts'
import { type DatabaseServer, databaseServer } from '../contract/database.ts'
import { GatewayError } from '../contract/errors.ts'
import type { Clock } from '../contract/plugin.ts'
import { PlanError, type Problem } from '../contract/problem.ts'
import { lockDataDir } from '../store/lock.ts'
import { openStore, type Store } from '../store/open.ts'
import { Instance, type InstanceHost } from './instance.ts'
import type { LoadedPlugin } from './load.ts'
import type { LogFactory, Redactor } from './log.ts'
import { makePlan } from './plan.ts'

/** What `openData` works with. */
export interface DataOptions {
  readonly raw: RawConfig
  /** `database.url`. */
  readonly url: string | undefined
  /** The plugin that serves the database, as soon as it is loaded; undefined when there is none. */
  readonly server: Promise<LoadedPlugin | undefined>
  readonly clock: Clock
  readonly logFor: LogFactory
  readonly redactor: Redactor
  /** Takes what ends it, in order. */
  readonly undo: (() => Promise<unknown>)[]
}

/** Opened data. */
export interface Data {
  readonly store: Store
  /** The plugin that serves it, already set up. It ends after the store. */
  readonly server?: Instance
  readonly socketPath: string | null
}

/** What is wrong with a gateway that has neither a url nor such a plugin. */
export const noDatabase: Problem = {
  ...{ where: 'database', key: 'url', what: 'there is no database: this is not set, and no loaded plugin serves one' },
  expected: '"postgres://…", or the plugin pglite, which embeds one, to be enabled',
}

/** Opens it. Nobody else touches the folder from the lock on, until the last thing pushed to `undo` here is undone. */
export async function openData(options: DataOptions): Promise<Data> {
  const { raw, url, undo } = options
  const lock = await lockDataDir(raw.dataDir)
  undo.push(async () => lock.release())
  const server = url === undefined ? await setUpServer(await options.server, options) : undefined
  const service = server?.services().get(databaseServer.id) as DatabaseServer | undefined
  const store = await openStore({ url, server: service, log: options.logFor('kernel') })
  undo.push(() => store.close())
  return { store, server, socketPath: service?.socketPath ?? null }
}

/** Sets the plugin up before all others. What it does wrong by its descriptor or config the whole plan says too. */
async function setUpServer(loaded: LoadedPlugin | undefined, options: DataOptions): Promise<Instance> {
  if (!loaded) throw new PlanError([noDatabase])
  const { order, resolved, problems } = makePlan([loaded], options.raw, [])
  const own = problems.filter(({ where }) => where === loaded.plugin.id)
  const planned = order[0]
  if (!planned || own.length > 0) throw new PlanError(own)
  for (const { value } of resolved.secrets) options.redactor.add(value)
  const instance = new Instance({ ...planned, onFailure: 'abort' }, hostWithoutStore(loaded.plugin.id, options))
  options.undo.push(() => instance.unwind('stopped'))
  const breaches = await instance.setup((id) => {
    throw tooEarly(loaded.plugin.id, `service "${id}"`)
  })
  if (breaches.length > 0) throw new PlanError(breaches)
  return instance
}

/** What the store is needed for is refused by name. */
function hostWithoutStore(plugin: string, { raw, clock, logFor, redactor }: DataOptions): InstanceHost {
  const there: Partial<InstanceHost> = {
    ...{ clock, logFor, dataDir: raw.dataDir },
    redact: (text) => redactor.apply(text),
    onError: (owner, what, error) => logFor(owner).error(`${what} failed`, { error: String(error) }),
  }
  return new Proxy(there as InstanceHost, {
    get(host, name) {
      if (name in host) return Reflect.get(host, name)
      throw tooEarly(plugin, String(name))
    },
  })
}

function tooEarly(plugin: string, what: string): GatewayError {
  return new GatewayError('internal_error', `It serves the database and is set up before the store opens: it has no ${what}.`, { plugin })
}
