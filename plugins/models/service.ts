/** The service `models`: names to providers, calls, catalog, prices. */
import { type Clock, GatewayError, type Logger, nearestName } from 'portico'
import { callUpstream, type Upstream } from './calls.ts'
import { type CatalogIndex, createCatalog } from './catalog.ts'
import type { ModelProvider, Models, ModelTarget } from './contract.ts'
import { createHealth, type HealthReports } from './health.ts'
import { createPrices } from './prices.ts'

/** What the service is made of. */
export interface ModelsOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly aliases: Readonly<Record<string, string>>
  /** The providers of now: the same array until they change. */
  providers(): readonly ModelProvider[]
  onCatalog(provider: string, models: number): void
  reports(provider: string): HealthReports
}

/** Makes the service; `stop` ends what it has under way. */
export function createModels(options: ModelsOptions): Omit<Models, 'offer' | 'expect'> & { stop(): void } {
  const { clock, aliases } = options
  let upstreams = new Map<string, Upstream>()
  let seen: readonly ModelProvider[] | null = null

  function current(): ReadonlyMap<string, Upstream> {
    const providers = options.providers()
    if (providers === seen) return upstreams
    seen = providers
    const next = new Map<string, Upstream>()
    for (const provider of providers) {
      const old = upstreams.get(provider.id)
      next.set(
        provider.id,
        old?.provider === provider ? old : { provider, active: 0, health: createHealth(provider.id, () => clock.now(), options.reports(provider.id)) },
      )
    }
    upstreams = next
    return upstreams
  }

  const catalog = createCatalog({
    clock,
    log: options.log,
    aliases,
    providers: options.providers,
    onLoaded: options.onCatalog,
  })
  const price = createPrices()

  function resolve(name: string): ModelTarget | Promise<ModelTarget> {
    const target = splitName(Object.hasOwn(aliases, name) ? (aliases[name] as string) : name)
    const upstream = target && current().get(target.provider)
    if (target && upstream) {
      if (!upstream.provider.closed || catalog.index().byId.has(`${target.provider}/${target.model}`)) return target
      return afterSettling(() => {
        if (catalog.index().byId.has(`${target.provider}/${target.model}`)) return target
        throw unknown(name, catalog.index())
      }, target.provider)
    }
    return byName(name, catalog.index()) ?? afterSettling(() => byName(name, catalog.index()) ?? fail(unknown(name, catalog.index())))
  }

  function afterSettling<T>(look: () => T, only?: string): T | Promise<T> {
    return catalog.complete(only) ? look() : catalog.settled(only).then(look)
  }

  function upstreamOf(id: string): Upstream {
    return (
      current().get(id) ?? fail(new GatewayError('model_not_found', `There is no provider "${id}". GET /v1/models lists what there is.`, { param: 'model' }))
    )
  }

  return {
    resolve,
    list() {
      const { models } = catalog.index()
      return catalog.complete() ? models : catalog.settled().then(() => catalog.index().models)
    },
    call: (kind, request) => callUpstream(upstreamOf, kind, request, clock),
    languageModel({ provider, model }) {
      const made = upstreamOf(provider).provider.languageModel?.(model)
      return (
        made ?? fail(new GatewayError('not_implemented', `The provider "${provider}" gives no language model for agents. Use it through /v1/chat/completions.`))
      )
    },
    providers: () =>
      [...current().values()].map(({ provider, health, active }) => {
        const { state, until } = health
        return {
          id: provider.id,
          state: provider.down ? ('down' as const) : state,
          ...(state === 'ok' ? {} : { until }),
          active,
          models: catalog.sizeOf(provider.id) ?? 0,
        }
      }),
    prices: { cost: async ({ provider, model }, usage) => price({ model, usage, baseUrl: current().get(provider)?.provider.baseUrl }) },
    stop: () => catalog.stop(),
  }
}

/** `provider/rest`, the rest with slashes of its own; null without one. */
function splitName(name: string): ModelTarget | null {
  const at = name.indexOf('/')
  return at > 0 && at < name.length - 1 ? { provider: name.slice(0, at), model: name.slice(at + 1) } : null
}

function byName(name: string, { byName: names }: CatalogIndex): ModelTarget | null {
  const found = names.get(name)
  if (!found || found.length === 0) return null
  if (found.length > 1) {
    throw new GatewayError('model_not_found', `Several providers have a model "${shown(name)}". Name one of ${found.map(({ id }) => id).join(', ')}.`, {
      param: 'model',
    })
  }
  return found[0] as ModelTarget
}

function unknown(name: string, { byId }: CatalogIndex): GatewayError {
  if (name.startsWith('agent/')) {
    return new GatewayError(
      'model_not_found',
      `There is no agent "${shown(name.slice('agent/'.length))}" here: names that begin with agent/ are kept for agents.`,
      { param: 'model' },
    )
  }
  const nearest = nearestName(name, byId.keys())
  return new GatewayError(
    'model_not_found',
    `The model "${shown(name)}" does not exist. ${nearest ? `Did you mean "${nearest}"?` : 'GET /v1/models lists what there is.'}`,
    {
      param: 'model',
    },
  )
}

function shown(name: string): string {
  return name.length > 200 ? `${name.slice(0, 200)}…` : name
}

function fail(error: Error): never {
  throw error
}
