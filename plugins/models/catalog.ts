/** Which models there are: each provider's list, kept and refreshed when asked for, so that one that hangs delays no other's. */
import type { Clock, Logger } from 'portico'
import type { ListedModel, ModelInfo, ModelProvider } from './contract.ts'

const freshMs = 60_000
const retryMs = 5_000
const deadlineMs = 5_000
const patienceMs = 1_000
const maxModels = 10_000

/** What the catalog needs. */
export interface CatalogOptions {
  readonly clock: Clock
  readonly log: Logger
  /** The providers of now: the same array until they change. */
  providers(): readonly ModelProvider[]
  readonly aliases: Readonly<Record<string, string>>
  /** A list came in or changed. */
  onLoaded(provider: string, models: number): void
}

/** An index of the lists. */
export interface CatalogIndex {
  readonly models: readonly ListedModel[]
  readonly byId: ReadonlyMap<string, ListedModel>
  /** By the provider's own name. */
  readonly byName: ReadonlyMap<string, readonly ListedModel[]>
}

/** The lists. */
export interface Catalog {
  /** What is known now; refreshes in the background what is stale. */
  index(): CatalogIndex
  /** True when every provider, or this one, was heard at least once. */
  complete(only?: string): boolean
  /** Resolves when those never heard have answered or failed, or only this one, at most in a second. */
  settled(only?: string): Promise<void>
  /** Models known of one provider, null = never heard. */
  sizeOf(provider: string): number | null
  /** Ends what is under way. */
  stop(): void
}

interface Entry {
  readonly provider: ModelProvider
  models: readonly ModelInfo[] | null
  /** ms since the epoch when it is to be asked again. */
  due: number
  asking: Promise<void> | null
}

/** An empty one; it asks when it is asked. */
export function createCatalog(options: CatalogOptions): Catalog {
  const { clock, log } = options
  const ending = new AbortController()
  let entries = new Map<string, Entry>()
  let seen: readonly ModelProvider[] | null = null
  let cached: CatalogIndex | null = null
  let due = 0

  function follow(): void {
    const providers = options.providers()
    if (providers === seen) return
    seen = providers
    entries = new Map(providers.map((provider) => [provider.id, keep(entries.get(provider.id), provider)]))
    cached = null
    due = 0
  }

  function ask(entry: Entry): Promise<void> {
    entry.asking ??= load(entry).finally(() => {
      entry.asking = null
      due = Math.min(due, entry.due)
    })
    return entry.asking
  }

  async function load(entry: Entry): Promise<void> {
    const { id } = entry.provider
    try {
      const found = (await withDeadline((signal) => entry.provider.models(signal), clock, ending.signal)).slice(0, maxModels)
      const changed = entry.models === null || JSON.stringify(found) !== JSON.stringify(entry.models)
      entry.due = clock.now() + freshMs
      if (changed) {
        entry.models = found
        cached = null
        if (entries.get(id) === entry) options.onLoaded(id, found.length)
      }
    } catch (error) {
      entry.due = clock.now() + retryMs
      if (ending.signal.aborted) return
      log.warn(`The models of the provider "${id}" could not be listed; it is asked again in ${retryMs / 1_000} s when needed`, { error: String(error) })
    }
  }

  function refresh(): void {
    const now = clock.now()
    if (now < due || ending.signal.aborted) return
    due = now + freshMs
    for (const entry of entries.values()) {
      if (entry.due <= now) void ask(entry)
      else due = Math.min(due, entry.due)
    }
  }

  return {
    index() {
      follow()
      refresh()
      cached ??= buildIndex(entries.values(), options.aliases)
      return cached
    },
    complete(only) {
      follow()
      for (const entry of entries.values()) if (entry.models === null && (only ?? entry.provider.id) === entry.provider.id) return false
      return true
    },
    async settled(only) {
      follow()
      refresh()
      const asking = [...entries.values()]
        .filter((entry) => entry.models === null && entry.asking && (only ?? entry.provider.id) === entry.provider.id)
        .map((entry) => entry.asking)
      if (asking.length === 0) return
      const waited = new AbortController()
      await Promise.race([Promise.all(asking), clock.sleep(patienceMs, waited.signal).catch(() => undefined)])
      waited.abort()
    },
    sizeOf: (provider) => entries.get(provider)?.models?.length ?? null,
    stop: () => ending.abort(),
  }
}

function keep(old: Entry | undefined, provider: ModelProvider): Entry {
  if (old?.provider === provider) return old
  return provider.down ? { provider, models: [], due: Number.POSITIVE_INFINITY, asking: null } : { provider, models: null, due: 0, asking: null }
}

function buildIndex(entries: Iterable<Entry>, aliases: Readonly<Record<string, string>>): CatalogIndex {
  const byId = new Map<string, ListedModel>()
  const byName = new Map<string, ListedModel[]>()
  for (const { provider, models } of entries) {
    for (const { id, created = 0, ownedBy = provider.id, description } of models ?? []) {
      const listed = { id: `${provider.id}/${id}`, provider: provider.id, model: id, created, ownedBy, ...(description ? { description } : {}) }
      if (byId.has(listed.id)) continue
      byId.set(listed.id, listed)
      byName.set(id, [...(byName.get(id) ?? []), listed])
    }
  }
  for (const [alias, target] of Object.entries(aliases)) {
    const model = byId.get(target)
    if (model) byId.set(alias, { ...model, id: alias })
  }
  const models = [...byId.values()].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  return { models, byId, byName }
}

async function withDeadline<T>(work: (signal: AbortSignal) => Promise<T>, clock: Clock, ending: AbortSignal): Promise<T> {
  const controller = new AbortController()
  const end = () => controller.abort(ending.reason)
  ending.addEventListener('abort', end, { once: true })
  const done = new AbortController()
  try {
    const late = clock.sleep(deadlineMs, done.signal).then(() => {
      throw new Error(`no answer within ${deadlineMs} ms`)
    })
    late.catch(() => undefined)
    return await Promise.race([work(controller.signal), late])
  } finally {
    done.abort()
    ending.removeEventListener('abort', end)
    controller.abort()
  }
}
