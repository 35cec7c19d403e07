/** The plugin `models`: which models there are, who has them, and how those are. It calls no model of its own accord. */
import { definePlugin, GatewayError, nearestName } from 'portico'
import { modelsConfig, type ProviderConfig } from './config.ts'
import {
  authCooldown,
  catalogLoaded,
  type ModelProvider,
  modelProviders,
  models as modelsRef,
  type ProviderType,
  providerDegraded,
  providerRecovered,
  providerTypes,
} from './contract.ts'
import { createModels } from './service.ts'

export default definePlugin({
  id: 'models',
  version: '0.1.0',
  api: 1,
  summary: 'Models and their providers: names, aliases, health, prices',
  config: modelsConfig,
  events: [catalogLoaded, authCooldown, providerDegraded, providerRecovered],
  provides: { models: modelsRef },
  slots: [modelProviders, providerTypes],
  // A provider that the config asks for and nobody can make is an error of the start.
  onFailure: 'abort',

  setup(ctx) {
    let configured: readonly ModelProvider[] = []
    let seen: readonly ModelProvider[] | null = null
    let all: readonly ModelProvider[] = []
    const expected: string[] = []
    const offered = new Map<symbol, readonly ModelProvider[]>()
    const providers = () => {
      const live = ctx.items(modelProviders)
      if (live !== seen) {
        seen = live
        all = [...configured]
        // Who was there first has the name.
        for (const provider of [...live, ...[...offered.values()].flat()]) if (!all.some(({ id }) => id === provider.id)) all = [...all, provider]
      }
      return all
    }
    const published = (publishing: Promise<void>) => {
      publishing.catch((error: unknown) => ctx.log.warn('An event of a provider was not stored', { error: String(error) }))
    }
    const iso = (ms: number) => new Date(ms).toISOString()
    const models = createModels({
      clock: ctx.clock,
      log: ctx.log,
      aliases: ctx.config.aliases,
      providers,
      onCatalog: (provider, count) => published(ctx.publish(catalogLoaded, { provider, models: count })),
      reports: (provider) => ({
        degraded(reason, failures, until) {
          ctx.log.warn(`The provider "${provider}" failed ${failures} times in a row (${reason})`)
          published(ctx.publish(providerDegraded, { provider, reason, failures, until: iso(until) }))
        },
        unauthorized(status, until) {
          ctx.log.error(`The provider "${provider}" refuses the gateway's credential: correct apiKey under [models.providers.${provider}]`)
          published(ctx.publish(authCooldown, { provider, status, until: iso(until) }))
        },
        recovered(downMs) {
          ctx.log.info(`The provider "${provider}" answers again`)
          published(ctx.publish(providerRecovered, { provider, downMs }))
        },
      }),
    })
    ctx.defer(() => models.stop())

    /** ms since the epoch when it went. */
    const gone = new Map<string, number>()
    /** Tells of those that went, and of those that came back. */
    const offer = (source: symbol, next: readonly ModelProvider[]) => {
      if (next.length > 0) offered.set(source, next)
      else offered.delete(source)
      seen = null
      const now = ctx.clock.now()
      for (const { id, down } of providers().filter((provider) => next.includes(provider))) {
        const since = gone.get(id)
        if (down && since === undefined) {
          gone.set(id, now)
          published(ctx.publish(providerDegraded, { provider: id, reason: 'gone', failures: 1, until: iso(now) }))
        } else if (!down && since !== undefined) {
          gone.delete(id)
          published(ctx.publish(providerRecovered, { provider: id, downMs: Math.max(0, now - since) }))
        }
      }
      // Asks the new ones for their lists.
      void models.list()
    }

    return {
      services: { models: { ...models, offer, expect: (ids) => void expected.push(...ids) } },
      ready() {
        configured = makeProviders(ctx.config.providers, ctx.items(providerTypes), ctx.log)
        seen = null
        checkNames(configured, ctx.items(modelProviders), ctx.config.aliases, expected)
        // Asks every provider for its list, and waits for none.
        void models.list()
      },
    }
  },
})

function makeProviders(
  section: Readonly<Record<string, ProviderConfig>>,
  types: readonly ProviderType[],
  log: Parameters<ProviderType['create']>[0]['log'],
): ModelProvider[] {
  return Object.entries(section).map(([id, { type, maxConcurrent, timeoutMs, ...rest }]) => {
    const known = types.map((entry) => entry.type)
    const found = types.find((entry) => entry.type === type)
    if (!found) {
      const nearest = nearestName(type, known)
      throw wrong(
        `providers.${id}.type`,
        `no plugin contributes the type "${type}"; known: ${known.join(', ') || 'none'}${nearest ? `; did you mean "${nearest}"?` : ''}`,
      )
    }
    const made = found.create({ id, ...rest, log })
    return { id, closed: made.closed, baseUrl: made.baseUrl, maxConcurrent, timeoutMs, ...bound(made) }
  })
}

function bound(made: ModelProvider): Pick<ModelProvider, 'models' | 'chat' | 'embeddings' | 'languageModel'> {
  return {
    models: (signal) => made.models(signal),
    ...(made.chat ? { chat: made.chat.bind(made) } : {}),
    ...(made.embeddings ? { embeddings: made.embeddings.bind(made) } : {}),
    ...(made.languageModel ? { languageModel: made.languageModel.bind(made) } : {}),
  }
}

function checkNames(
  configured: readonly ModelProvider[],
  live: readonly ModelProvider[],
  aliases: Readonly<Record<string, string>>,
  expected: readonly string[],
): void {
  for (const [index, { id }] of live.entries()) {
    if (configured.some((other) => other.id === id)) throw wrong(`providers.${id}`, 'a plugin brings a provider of that name; take another')
    if (live.findIndex((other) => other.id === id) !== index) throw wrong('providers', `two plugins bring a provider "${id}"; switch one off`)
  }
  const ids = [...[...configured, ...live].map(({ id }) => id), ...expected]
  for (const [alias, target] of Object.entries(aliases)) {
    const provider = target.slice(0, target.indexOf('/'))
    if (ids.includes(provider)) continue
    const nearest = nearestName(provider, ids)
    throw wrong(`aliases.${alias}`, `there is no provider "${provider}"; known: ${ids.join(', ') || 'none'}${nearest ? `; did you mean "${nearest}"?` : ''}`)
  }
}

function wrong(key: string, why: string): GatewayError {
  return new GatewayError('config_invalid', `${key}: ${why}.`, { plugin: 'models' })
}
