/** `portico keys`: the routes of `/api/keys` on the command line. */
import { type Command, defineCommand, GatewayError, toTable } from 'portico'

interface KeyView {
  readonly id: string
  readonly name: string
  readonly prefix: string
  readonly kind: string
  readonly scopes: readonly string[]
  readonly createdAt: string
  readonly expiresAt: string | null
  readonly lastUsedAt: string | null
  readonly revokedAt: string | null
}

const keyId = { id: { type: 'positional', summary: 'The key: key_…, as "keys list" shows it', required: true } } as const

const create: Command = {
  summary: 'Make a key; it is shown this once',
  args: {
    name: { type: 'positional', summary: 'What it is for' },
    scope: { type: 'string', summary: 'A scope (default rpc and api, for a person also approve)', hint: 'scope', multiple: true },
    expires: { type: 'string', summary: 'When it ends: 12h, 30d, or a date and time', hint: 'when' },
    kind: { type: 'string', summary: 'user, agent, service or device (default user)', hint: 'kind' },
    owner: { type: 'string', summary: 'Whose it is: keys of one owner are one principal', hint: 'id' },
    quotaDaily: { type: 'string', summary: 'Requests a day', hint: 'n' },
  },
  examples: ['portico keys create my-app', 'portico keys create ci --scope api --expires 30d', 'portico keys create admin --scope admin --json'],
  async run({ args, print, note, request }) {
    const scopes = Array.isArray(args.scope) ? args.scope.flatMap((scope: string) => scope.split(',')) : undefined
    const body = {
      ...{ name: args.name, scopes, kind: args.kind, owner: args.owner },
      expiresAt: typeof args.expires === 'string' ? toMoment(args.expires) : undefined,
      quotaDaily: typeof args.quotaDaily === 'string' ? Number(args.quotaDaily) : undefined,
    }
    const made = await request<KeyView & { key: string }>('POST', '/api/keys', body)
    note(`${made.id} with ${made.scopes.join(', ')}. Keep the key: it is not shown again.`)
    print(made, made.key)
  },
}

const list: Command = {
  summary: 'List the keys, newest first',
  args: {
    revoked: { type: 'boolean', summary: 'List revoked ones too' },
    limit: { type: 'string', summary: 'At most, up to 200', hint: 'n', default: '50' },
  },
  examples: ['portico keys list', 'portico keys list --revoked --json'],
  async run({ args, print, request }) {
    const query = new URLSearchParams({ limit: String(args.limit), ...(args.revoked ? { revoked: 'true' } : {}) })
    const page = await request<{ keys: KeyView[]; total: number }>('GET', `/api/keys?${query}`)
    const rows = page.keys.map((key) => [key.id, key.name || '–', key.kind, key.scopes.join(','), stateOf(key), key.lastUsedAt ?? 'never used'])
    const more = page.total > rows.length ? `\n${page.total - rows.length} more: --limit ${Math.min(200, page.total)}` : ''
    print(
      page,
      rows.length === 0
        ? 'No keys yet. Make one: portico keys create NAME'
        : `${toTable([['ID', 'NAME', 'KIND', 'SCOPES', 'STATE', 'LAST USED'], ...rows])}${more}`,
    )
  },
}

const rotate: Command = {
  summary: 'Give a key a new secret; the old one dies at once',
  args: keyId,
  examples: ['portico keys rotate key_0123'],
  async run({ args, print, note, request }) {
    const made = await request<KeyView & { key: string }>('POST', `/api/keys/${encodeURIComponent(String(args.id))}/rotate`)
    note(`${made.id} has a new secret. Keep it: it is not shown again.`)
    print(made, made.key)
  },
}

const revoke: Command = {
  summary: 'Revoke a key; its connections end',
  args: keyId,
  examples: ['portico keys revoke key_0123'],
  async run({ args, print, request }) {
    const revoked = await request<KeyView>('DELETE', `/api/keys/${encodeURIComponent(String(args.id))}`)
    print(revoked, `${revoked.id} is revoked.`)
  },
}

export default defineCommand({ summary: 'Create, list, rotate and revoke keys', commands: { create, list, rotate, revoke } })

/** `30d`, `12h`, `90m` from now, or a moment; RFC 3339, UTC. */
function toMoment(text: string): string {
  const span = /^(\d{1,6})([mhd])$/.exec(text)
  const unit = { m: 60_000, h: 3_600_000, d: 86_400_000 }[span?.[2] ?? ''] ?? 0
  const time = span ? Date.now() + Number(span[1]) * unit : Date.parse(text)
  if (Number.isNaN(time))
    throw new GatewayError('validation_failed', `--expires: found ${JSON.stringify(text)}; expected 90m, 12h, 30d or a moment such as 2030-01-31T12:00:00Z.`)
  return new Date(time).toISOString()
}

function stateOf({ revokedAt, expiresAt }: KeyView): string {
  if (revokedAt !== null) return 'revoked'
  if (expiresAt === null) return 'good'
  return Date.parse(expiresAt) <= Date.now() ? 'expired' : `until ${expiresAt}`
}
