/** Looks for model servers again and again, and says which there are. */
import type { Clock, Logger } from 'portico'
import type { ModelInfo, ModelProvider } from 'portico/plugins/models'
import { createOpenAiCompatible } from 'portico/plugins/provider-openai-compatible'
import { type Kind, kinds } from './kinds.ts'
import { probe } from './probe.ts'

/** How it looks. */
export interface FinderOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly intervalMs: number
  /** 0 = not looked for. */
  readonly ports: Readonly<Record<Kind['id'], number>>
  /** Told when one comes, goes, or comes back. */
  offer(providers: readonly ModelProvider[]): void
}

/** Looks of silence after which a server that was there counts as gone: it may only be busy. */
const patience = 3

interface Found {
  readonly kind: Kind
  readonly port: number
  provider: ModelProvider
  silences: number
}

/** Looks until the signal; the first look is over when `first` resolves. */
export function startFinder({ clock, log, signal, intervalMs, ports, offer }: FinderOptions): { first: Promise<void>; ended: Promise<void> } {
  const found = new Map<string, Found>()

  async function look(kind: Kind): Promise<boolean> {
    const port = ports[kind.id]
    const known = found.get(kind.id)
    const sight = await probe(kind, port, signal)
    if (signal.aborted) return false
    if (sight === 'it') {
      if (known) known.silences = 0
      if (known && !known.provider.down) return false
      found.set(kind.id, { kind, port, provider: createFound(kind, port), silences: 0 })
      log.info(`${kind.name} ${known ? 'is back' : 'found'} on port ${port}: its models are ${kind.id}/NAME`)
      return true
    }
    if (!known || known.provider.down) return false
    if (sight === 'silent' && ++known.silences < patience) return false
    known.provider = { ...known.provider, down: `${kind.name} on port ${port} does not run any more: start it again.` }
    log.info(`${kind.name} on port ${port} is gone`)
    return true
  }

  async function lookAround(): Promise<void> {
    const changes = await Promise.all(kinds.filter(({ id }) => ports[id] > 0).map(look))
    if (changes.includes(true)) offer([...found.values()].map(({ provider }) => provider))
  }

  const first = lookAround()
  const loop = async () => {
    await first
    while (!signal.aborted) {
      await clock.sleep(intervalMs, signal).catch(() => undefined)
      if (!signal.aborted) await lookAround()
    }
  }
  return { first, ended: loop() }
}

/** Forwards to it. Its list outlives a moment without an answer: whether it is gone, the next look decides. */
function createFound({ id }: Kind, port: number): ModelProvider {
  const provider = createOpenAiCompatible({ id, baseUrl: `http://127.0.0.1:${port}/v1`, headers: {}, log: silent })
  let list: readonly ModelInfo[] = []
  return {
    ...provider,
    async models(signal) {
      list = await provider.models(signal).catch(() => list)
      return list
    },
  }
}

const nothing = () => {}
const silent: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
