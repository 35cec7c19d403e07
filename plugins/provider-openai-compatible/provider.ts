/** A provider that forwards to one origin. The address stands in the operator's config, so the runtime's own `fetch` calls it. */
import { GatewayError } from 'portico'
import type { ModelInfo, ModelProvider, ProviderOptions, WireRequest } from 'portico/plugins/models'

const maxListBytes = 16 * 1024 * 1024

/** Makes one; throws when `baseUrl` is missing or no URL. */
export function createProvider({ id, baseUrl, apiKey, headers, models }: ProviderOptions): ModelProvider {
  const base = checkUrl(id, baseUrl)
  // Asked for as it is: what fetch decompressed would not be the same bytes.
  const own: Record<string, string> = {
    'user-agent': 'portico',
    'accept-encoding': 'identity',
    ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
  }
  for (const [name, value] of Object.entries(headers)) own[name.toLowerCase()] = value

  const post = (path: string) => {
    const url = base + path
    return ({ body, signal, headers: client }: WireRequest) =>
      fetch(url, { method: 'POST', headers: { ...client, 'content-type': 'application/json', ...own }, body: body as BodyInit, signal, redirect: 'manual' })
  }
  return {
    id,
    baseUrl: base,
    closed: models !== undefined,
    chat: post('/chat/completions'),
    embeddings: post('/embeddings'),
    async models(signal) {
      if (models) return models.map((model) => ({ id: model }))
      const response = await fetch(`${base}/models`, { headers: { accept: 'application/json', ...own }, signal, redirect: 'manual' })
      if (!response.ok) {
        await response.body?.cancel()
        throw new Error(`GET /models answered ${response.status}`)
      }
      return toModels(await readBounded(response))
    },
  }
}

function checkUrl(id: string, baseUrl: string | undefined): string {
  const wrong = (why: string) =>
    new GatewayError('config_invalid', `providers.${id}.baseUrl ${why}; expected e.g. "http://127.0.0.1:9000/v1".`, { plugin: 'models' })
  if (baseUrl === undefined) throw wrong('is missing')
  if (!URL.canParse(baseUrl)) throw wrong('is no URL')
  const url = new URL(baseUrl)
  if (url.username || url.password) throw wrong('holds a password, which belongs into apiKey')
  if (url.search || url.hash) throw wrong('has a query or fragment')
  return url.origin + url.pathname.replace(/\/+$/, '')
}

async function readBounded(response: Response): Promise<unknown> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of response.body ?? []) {
    size += piece.length
    if (size > maxListBytes) throw new Error(`GET /models answered more than ${maxListBytes} bytes`)
    pieces.push(piece)
  }
  return JSON.parse(Buffer.concat(pieces).toString('utf8'))
}

function toModels(value: unknown): ModelInfo[] {
  const data = (value as { data?: unknown } | null)?.data
  if (!Array.isArray(data)) throw new Error('GET /models answered no list')
  return data.flatMap((entry: { id?: unknown; created?: unknown; owned_by?: unknown } | null): ModelInfo[] => {
    if (typeof entry?.id !== 'string' || entry.id === '') return []
    const created = Number.isSafeInteger(entry.created) ? (entry.created as number) : undefined
    return [{ id: entry.id, created, ownedBy: typeof entry.owned_by === 'string' ? entry.owned_by : undefined }]
  })
}
